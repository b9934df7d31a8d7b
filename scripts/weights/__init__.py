"""Fill the Hugging Face cache from models that ship inside Python packages, for machines that do not reach the hub.

    python -m scripts.weights                                       all of them: the same as `make weights`
    python -m scripts.weights sentence-transformers/all-MiniLM-L6-v2
    python -m scripts.weights sinkd                                 those of a recipe

Afterwards `from_pretrained("sentence-transformers/all-MiniLM-L6-v2")` and `timm.create_model("tf_efficientnet_lite0",
pretrained=True)` find what they ask for, with `HF_HUB_OFFLINE=1` where there is no network at all. What the hub itself
has put into the cache is left alone. `catalogue.py` says which packages these are.
"""
