"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from common.losses.contrastive import clip_loss
from common.recipe import Stage
from common.workload import Workload
from projects.proclip.losses import instance_alignment
from projects.proclip.model import Adapter

LLAMA: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
"""Llama 3's 8B, whose sizes the configs leave to the hub."""
TOKENS, CONTEXT = 96, 77
"""Of a caption on average with what is put around it (short, raw and long ones), and of CLIP."""
PAIRS = {1: 2_800_000, 2: 12_900_000, 3: 26_200_000}
"""Pictures of CC3M, with CC12M, with YFCC15M, as DreamLIP has them."""
VIEWS = 3
TEXTS, PICTURES = 500_000, 200_000
"""Of all test sets, about."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    if stage.run == "predict":
        llama = LlamaModel(LlamaConfig(**LLAMA)).bfloat16().requires_grad_(False).eval()
        texts = TEXTS if stage.name.endswith("tests") else VIEWS * PAIRS[3]

        def read(n: int) -> Tensor:
            mask = torch.zeros(n, 1, TOKENS, TOKENS, dtype=torch.bfloat16)
            ids = torch.zeros(n, TOKENS, dtype=torch.long)
            return llama(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state

        return Workload(llama, read, data["batch_size"], texts, unit="text")
    clip = build(model["clip"])
    side, workers = data.get("image_size"), data["num_workers"]
    if stage.run == "test":
        clip.requires_grad_(False).eval()
        return Workload(
            clip, lambda n: clip.encode_image(torch.zeros(n, 3, side, side)), data["batch_size"], PICTURES,
            workers=workers,
        )  # fmt: skip
    nets = nn.ModuleDict({"adapter": Adapter(model["dim"], _config(model["clip"])["embed_dim"])})
    samples = PAIRS[len(data["train"]["init_args"]["roots"])]
    if "image_size" not in data:
        nets["clip"] = clip.requires_grad_(False).eval()

        def inherit(n: int) -> Tensor:
            with torch.no_grad():
                target = clip.encode_text(torch.zeros(2 * n, CONTEXT, dtype=torch.long), normalize=True)
            return instance_alignment(nets["adapter"](torch.zeros(2 * n, model["dim"])), target)

        return Workload(nets, inherit, data["batch_size"], samples, unit="pair of captions", workers=workers)
    tuned = model.get("tune_images", True)
    nets["visual"] = clip.visual.requires_grad_(tuned)
    if tuned and model["weight"]:
        nets["teacher"] = build(model["clip"]).visual.requires_grad_(False)

    def tune(n: int) -> Tensor:
        pictures = torch.zeros(n, 3, side, side)
        images = F.normalize(nets["visual"](pictures), dim=-1)
        loss = clip_loss(images, nets["adapter"](torch.zeros(n, model["dim"])), 100.0)
        if "teacher" in nets:
            with torch.no_grad():
                before = F.normalize(nets["teacher"](pictures), dim=-1)
            loss = loss + model["weight"] * instance_alignment(images, before)
        return loss

    return Workload(nets, tune, data["batch_size"], samples, workers=workers)


def build(clip: str) -> Any:
    """One of open_clip's models without its weights, on the default device."""
    config = _config(clip)
    kind: Any = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    return kind(**config)


def _config(clip: str) -> dict[str, Any]:
    config = open_clip.get_model_config(clip.partition(":")[0])
    assert config is not None
    return config
