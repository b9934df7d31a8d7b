"""A picture, a small student in a run folder, and prompts: what the tests of MobileSAM's commands share."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_model
from torch import nn

from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViT, TinyViTConfig

HEIGHT, WIDTH = 60, 90
SHAPES = {"left": (8, 12, 34, 44), "right": (50, 20, 80, 50)}  # first column and row, last column and row
POINT, GROUND, BOX = (30.0, 20.0, 1), (60.0, 50.0, 0), (10.0, 5.0, 70.5, 55.0)
SAM = SamConfig(
    image_size=64, embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,), window_size=3,
    prompt_dim=32, decoder_depth=1, decoder_mlp_dim=64, decoder_heads=4, iou_head_hidden=32,
)  # fmt: skip
TINY_VIT = TinyViTConfig(
    image_size=64, embed_dims=(8, 16, 16, 24), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 3), window_sizes=(3, 3, 4, 3),
    out_chans=32,
)  # fmt: skip


def picture() -> np.ndarray:
    """Two coloured rectangles on grey, uint8 [60, 90, 3]."""
    image = np.full((HEIGHT, WIDTH, 3), 120, dtype=np.uint8)
    for (x0, y0, x1, y1), color in zip(SHAPES.values(), ((230, 40, 40), (40, 60, 230)), strict=True):
        image[y0 : y1 + 1, x0 : x1 + 1] = color
    return image


def write_run(folder: Path, sam: nn.Module, model: dict[str, SamConfig | TinyViTConfig]) -> Path:
    """`weights.safetensors` and `config.yaml` as a stage leaves them: the image size stands under `data` only."""
    folder.mkdir(exist_ok=True)
    save_model(sam, str(folder / "weights.safetensors"))
    written = {
        "model": {part: {k: v for k, v in asdict(sizes).items() if k != "image_size"} for part, sizes in model.items()},
        "data": {"image_size": sam.image_encoder.img_size, "batch_size": 8},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(written))))  # tuples become lists
    return folder / "weights.safetensors"


def write_student(folder: Path) -> Path:
    """A student with random weights, as `distill` writes it."""
    torch.manual_seed(0)
    sam = build_sam(SAM, TinyViT(TINY_VIT))
    return write_run(folder, sam, {"teacher": SAM, "student": TINY_VIT})
