"""What VLV's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, Florence2Config, Florence2Model, Qwen2Config, Qwen2ForCausalLM

from common.models.text_to_image import encode_embeddings
from common.recipe import Stage
from common.workload import Workload
from projects.vlv.model import mlp, read

WORDS = 51_328  # of Florence-2: BART's, the location tokens and the task tokens, about
FLORENCE = {
    "vision_config": {
        "embed_dim": (256, 512, 1024, 2048), "num_heads": (8, 16, 32, 64), "num_groups": (8, 16, 32, 64),
        "projection_dim": 1024,
    },
    "text_config": {
        "model_type": "bart", "vocab_size": WORDS, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12,
        "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096,
        "max_position_embeddings": 4096,
    },
}  # fmt: skip
LOOKS, PROMPT = 768, 15  # pixels of Florence-2, tokens of its task prompt
UNET = {  # Stable Diffusion 2.1
    "sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True
}  # fmt: skip
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
}  # fmt: skip
CLIP = {
    "vocab_size": 49_408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16, "hidden_act": "gelu",
}  # fmt: skip
QWEN = {
    "Qwen/Qwen2.5-0.5B": (896, 24, 14, 2, 4864),
    "Qwen/Qwen2.5-1.5B": (1536, 28, 12, 2, 8960),
    "Qwen/Qwen2.5-3B": (2048, 36, 16, 2, 11_008),
}  # width, layers, heads, heads of keys and values, feed-forward width
VOCABULARY = 151_936  # of Qwen2.5
SAMPLES = {"reconstruct": 40_000_000, "describe": 6_000_000, "redraw": 30_000, "evaluate": 30_000}
COCO_2017 = 5_000  # pictures of its validation split
REPORTED = {"reconstruct": "about 4 days on 8 RTX 6000 Ada (section 4.1)"}


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config.

    What draws the pictures of captions, Stable Diffusion 3.5, is not counted: it is another model's work.
    """
    model, data = config["model"], config["data"]
    described = {"reconstruct": _reconstruct, "describe": _describe, "redraw": _redraw, "evaluate": _evaluate}
    networks, step = described[stage.name](model, data["image_size"])
    drawn = calls(model) if stage.name == "redraw" else 1
    of_2017 = "2017" in data.get("test", {}).get("init_args", {}).get("images", "")
    return Workload(
        networks,
        step,
        batch=data["batch_size"],
        samples=(COCO_2017 if of_2017 else SAMPLES[stage.name]) * drawn,
        unit="call of the U-Net" if drawn > 1 else "image",
        fused=True,
        workers=data["num_workers"],
        reported=REPORTED.get(stage.name, ""),
    )


def _encoder(queries: int) -> tuple[nn.ModuleDict, Any]:
    """The VLV encoder, DaViT frozen; and how it is called: pictures that are looked at -> z."""
    florence = Florence2Model(Florence2Config(**FLORENCE))
    florence.language_model.set_attn_implementation("eager")  # the other one looks into masks, which have no values
    for part in (florence.vision_tower, florence.multi_modal_projector):
        part.requires_grad_(False).eval()
    parts = nn.ModuleDict({"florence": florence, "project": mlp(1024, 1024)})

    def encode(n: int) -> Tensor:
        visual = florence.get_image_features(torch.zeros(n, 3, LOOKS, LOOKS)).pooler_output
        asked = torch.zeros(1, queries, 1024)
        prompt = torch.zeros(PROMPT, dtype=torch.long)
        return parts["project"](read(florence.language_model, visual, prompt, asked))

    return parts, encode


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(**CLIP)).requires_grad_(False).eval()


def _reconstruct(model: dict[str, Any], size: int) -> tuple[nn.Module, Any]:
    encoder, encode = _encoder(model["queries"])
    unet, vae = (net.requires_grad_(False).eval() for net in (UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)))
    if model.get("checkpointing"):
        unet.enable_gradient_checkpointing()
    text = _text_encoder()

    def step(n: int) -> Tensor:
        context = encode_embeddings(text, encode(n))
        with torch.no_grad():
            latents = vae.encode(torch.zeros(n, 3, size, size)).latent_dist.mean
        t = torch.zeros(n, dtype=torch.long)
        return F.mse_loss(unet(latents, t, encoder_hidden_states=context).sample, latents)

    return nn.ModuleDict({"encoder": encoder, "text": text, "unet": unet, "vae": vae}), step


def _language_model(name: str) -> Qwen2ForCausalLM:
    width, layers, heads, kv, hidden = QWEN[name]
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    sizes |= {"num_key_value_heads": kv, "intermediate_size": hidden, "vocab_size": VOCABULARY}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True, use_cache=False))


def _describe(model: dict[str, Any], size: int) -> tuple[nn.Module, Any]:
    encoder, encode = _encoder(model["queries"])
    unfrozen = model.get("unfrozen", "encoder")
    if unfrozen != "encoder":
        encoder.requires_grad_(False).eval()
    return _captioner(encoder, encode, model, unfrozen)


def _captioner(encoder: nn.ModuleDict, encode: Any, model: dict[str, Any], unfrozen: str) -> tuple[nn.Module, Any]:
    learns = unfrozen != "adapter"
    language = _language_model(model["language_model"]).requires_grad_(learns).train(learns)
    if model.get("checkpointing"):
        language.gradient_checkpointing_enable()  # which transformers heeds in training mode alone
    text, adapter = _text_encoder(), mlp(1024, language.config.hidden_size)

    def step(n: int) -> Tensor:
        prefix = adapter(encode_embeddings(text, encode(n)))
        words = torch.zeros(n, model["max_tokens"], language.config.hidden_size)
        logits = language(inputs_embeds=torch.cat([prefix, words], 1)).logits
        return F.cross_entropy(logits.flatten(0, 1), torch.zeros(logits[..., 0].numel(), dtype=torch.long))

    return nn.ModuleDict({"encoder": encoder, "text": text, "adapter": adapter, "words": language}), step


def _evaluate(model: dict[str, Any], size: int) -> tuple[nn.Module, Any]:
    """The captioner alone, as if it were told its own words: beam search takes more."""
    encoder, encode = _encoder(model["queries"])
    networks, step = _captioner(encoder, encode, model, "adapter")
    return networks.requires_grad_(False).eval(), step


def _redraw(model: dict[str, Any], size: int) -> tuple[nn.Module, Any]:
    """One call of the U-Net, of which a picture takes many: `calls`. The encoder's single call is left out."""
    encoder, _ = _encoder(model["queries"])
    unet = UNet2DConditionModel(**UNET)

    def step(n: int) -> Tensor:
        latents, context = torch.zeros(n, 4, size // 8, size // 8), torch.zeros(n, model["queries"], 1024)
        return unet(latents, torch.zeros(n, dtype=torch.long), encoder_hidden_states=context).sample

    return nn.ModuleDict({"encoder": encoder, "unet": unet}).requires_grad_(False).eval(), step


def calls(model: dict[str, Any]) -> int:
    """Calls of the U-Net for a picture: with and without its embeddings, at every step, at every guidance above 1."""
    return model["steps"] * sum(1 if guidance == 1 else 2 for guidance in model["guidance"])
