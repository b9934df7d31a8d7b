"""Stand-ins for what the paper's configs read: images in SA-1B's and LVIS' formats, random weights in official ones."""

import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import resnet18

from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViT, TinyViTConfig
from common.rehearsal.datasets import make_lvis
from common.rehearsal.sa1b import make_sa1b
from projects.mobilesamv2.efficientvit import EfficientVitConfig, EfficientVitEncoder

SAM = SamConfig(image_size=128, embed_dim=32)
EFFICIENTVIT = EfficientVitConfig(
    image_size=128, widths=(8, 8, 8, 16, 32), depths=(1, 1, 1, 1, 1), head_dim=8, neck_width=16, neck_depth=1
)
"""The sizes of `configs/rehearsal/*.yaml`."""


def make(folder: Path) -> None:
    """Write `data/` and `weights/` into `folder`: two training batches, and images enough to measure on."""
    make_sa1b(folder / "data/sa1b/train", images=16, resolution=(60, 90))
    make_sa1b(folder / "data/sa1b/val", images=2, resolution=(60, 90), first=11186)
    make_lvis(folder / "data/lvis", images=104, resolution=(30, 40))
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(build_sam(SAM).state_dict(), weights / "sam_vit_h_4b8939.pth")
    tiny = build_sam(SAM, TinyViT(TinyViTConfig(image_size=SAM.image_size))).state_dict()
    torch.save(tiny | {"image_encoder.norm_head.weight": torch.zeros(320)}, weights / "mobile_sam.pt")
    torch.save({"state_dict": official(EfficientVitEncoder(EFFICIENTVIT).state_dict())}, weights / "l2.pt")
    torch.save(resnet18().state_dict(), weights / "resnet50-11ad3fa6.pth")


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an EfficientViT encoder under the names that the released checkpoints have."""
    return {f"image_encoder.{_official(key)}": value for key, value in state.items()}


def _official(key: str) -> str:
    key = re.sub(r"^backbone\.stages\.(\d+)\.blocks\.", lambda m: f"backbone.stages.{int(m[1]) + 1}.op_list.", key)
    key = re.sub(r"^backbone\.stem\.in_conv\.", "backbone.stages.0.op_list.0.", key)
    key = re.sub(r"^backbone\.stem\.res(\d+)\.", lambda m: f"backbone.stages.0.op_list.{int(m[1]) + 1}.", key)
    key = re.sub(r"^inputs\.(\d+)\.", r"neck.input_ops.\1.op_list.0.", key)
    key = re.sub(r"^middle\.(\d+)\.", r"neck.middle.op_list.\1.main.", key)
    return re.sub(r"^output\.", "neck.output_ops.0.op_list.0.conv.", key)
