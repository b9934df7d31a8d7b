"""What the stages do at paper scale, for `make plan`: Stable Diffusion 2.1 without values, and a step through it."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from common.models.lora import Lora
from common.recipe import Stage
from common.workload import Workload
from projects.lora_distill.model import Pair, distillation_loss

UNET: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
CLIP: dict[str, Any] = {
    "vocab_size": 49_408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
TOKENS = 77
SAMPLES = {"pictures": 6000, "distill": 50_000, "evaluate": 6000}  # of DiffusionDB: parts of 1,000


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    unet, vae, text = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), CLIPTextModel(CLIPTextConfig(**CLIP))
    frozen = nn.ModuleDict({"vae": vae, "text": text}).requires_grad_(False).eval()
    batch, samples, workers = data["batch_size"], SAMPLES[stage.name], data["num_workers"]
    if stage.run == "fit":
        networks, step = _distill(unet, frozen, model, data["image_size"])
        return Workload(networks, step, batch, samples, unit="picture", workers=workers)
    guided = stage.name == "pictures" or model.get("drawer") == "guided"
    networks, step = _draw(unet, frozen, data["image_size"])
    calls = model["steps"] * (2 if guided else 1)
    return Workload(networks, step, batch, calls * samples, unit="evaluation of the U-Net", workers=workers)


def _distill(unet: Any, frozen: nn.ModuleDict, model: dict[str, Any], side: int) -> tuple[nn.Module, Any]:
    pair = Pair(unet, Lora(**model["lora"]) if model["lora"] else None)

    def step(n: int) -> Tensor:
        with torch.no_grad():
            latents = frozen["vae"].encode(torch.zeros(n, 3, side, side)).latent_dist.mean  # type: ignore[operator]
            context = frozen["text"](input_ids=torch.zeros(n, TOKENS, dtype=torch.long)).last_hidden_state
        t = torch.zeros(n, dtype=torch.long)
        target = pair.guided(latents, t, context, context[:1], model["guidance"])
        return distillation_loss(pair.student(latents, t, context).sample, target)

    return nn.ModuleDict({"pair": pair, "frozen": frozen}), step


def _draw(unet: Any, frozen: nn.ModuleDict, side: int) -> tuple[nn.Module, Any]:
    """One evaluation, of which a picture takes many; text encoder, autoencoder and measures are small beside them."""
    unet.requires_grad_(False).eval()

    def step(n: int) -> None:
        context, latents = torch.zeros(n, TOKENS, UNET["cross_attention_dim"]), torch.zeros(n, 4, side // 8, side // 8)
        unet(latents, torch.zeros(n, dtype=torch.long), encoder_hidden_states=context)

    return nn.ModuleDict({"unet": unet, "frozen": frozen}), step
