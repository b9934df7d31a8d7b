"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from common.recipe import Stage
from common.workload import Workload
from projects.faster_diffusion.cost import SD15, TOKENS
from projects.faster_diffusion.keys import key_steps

VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}
TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
PICTURES = 5000  # of COCO 2017 val
BETWEEN = 0.675
"""What a step between key steps costs, by one in full (the arm `cost`)."""
REPORTED = "2.42 s a picture in full, 1.42 s with the paper's method, on an A40 (Table 1)"


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """A step of a guided picture through the U-Net; a picture takes `calls` of them. Decoding it is left out."""
    if stage.name == "cost":
        network = nn.Linear(1, 1).requires_grad_(False)  # it counts, and computes nothing
        return Workload(network, lambda n: network(torch.zeros(n, 1)), batch=1, samples=1, unit="count")
    model, data = config["model"], config["data"]
    parts: dict[str, Any] = {"unet": UNet2DConditionModel(**SD15), "vae": AutoencoderKL(**VAE)}
    parts["text"] = CLIPTextModel(CLIPTextConfig(**TEXT, max_position_embeddings=TOKENS))
    networks = nn.ModuleDict(parts).requires_grad_(False).eval()
    if model.get("half"):
        networks.half()
    kind, side = next(networks.parameters()).dtype, data["image_size"] // 8

    def step(n: int) -> Tensor:
        latents, text = torch.zeros(2 * n, 4, side, side, dtype=kind), torch.zeros(2 * n, TOKENS, 768, dtype=kind)
        return networks["unet"](latents, torch.zeros(2 * n, dtype=torch.long), encoder_hidden_states=text).sample

    pictures = data["test"]["init_args"].get("limit") or PICTURES
    return Workload(
        networks,
        step,
        batch=data["batch_size"],
        samples=round(pictures * calls(model)),
        unit="step of a picture",
        workers=data["num_workers"],
        reported=REPORTED if stage.name == "sample" else "",
    )


def calls(model: dict[str, Any]) -> float:
    """Steps in full that a picture costs as much as; those between key steps count for less."""
    steps = model.get("steps", 50)
    if model.get("only"):
        return len(key_steps(model["only"], steps))
    reuse = model.get("reuse") or {}
    count = len(key_steps(reuse.get("keys", "all"), steps))
    return count + BETWEEN * (steps - count)
