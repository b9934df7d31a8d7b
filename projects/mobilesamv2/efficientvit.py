"""EfficientViT as SAM's image encoder (Cai et al. 2023, EfficientViT-SAM; MobileSAMv2 takes its size L2).

The backbone is timm's; neck and checkpoint names follow `mit-han-lab/efficientvit` and MobileSAMv2's `build_sam.py`.
"""

import re
from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.efficientvit_mit import ConvNormAct, EfficientVitLarge, FusedMBConv, GELUTanh, LiteMLA
from torch import Tensor, nn
from torch.nn import functional as F

from common.training.weights import State

EPS = 1e-6  # of all its normalisations
NAMES = (
    (r"^backbone\.stages\.0\.op_list\.0\.", lambda m: "backbone.stem.in_conv."),
    (r"^backbone\.stages\.0\.op_list\.(\d+)\.", lambda m: f"backbone.stem.res{int(m[1]) - 1}."),
    (r"^backbone\.stages\.(\d+)\.op_list\.(\d+)\.", lambda m: f"backbone.stages.{int(m[1]) - 1}.blocks.{m[2]}."),
    (r"^neck\.input_ops\.(\d+)\.op_list\.0\.", lambda m: f"inputs.{m[1]}."),
    (r"^neck\.middle\.op_list\.(\d+)\.main\.", lambda m: f"middle.{m[1]}."),
    (r"^neck\.output_ops\.0\.op_list\.0\.conv\.", lambda m: "output."),
)
"""How the official checkpoints name what is named otherwise here."""


@dataclass(frozen=True)
class EfficientVitConfig:
    """Sizes; the defaults are L2's.

    Args:
        image_size: side of SAM's square input. The backbone sees it at half of that side.
        widths: channels of the stem and of the four stages.
        depths: their blocks.
        head_dim: channels of a head of the linear attention.
        neck_width: channels of the neck.
        neck_depth: its blocks.
        out_chans: channels of the embedding.
    """

    image_size: int = 1024
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (1, 2, 2, 8, 8)
    head_dim: int = 32
    neck_width: int = 256
    neck_depth: int = 12
    out_chans: int = 256


class EfficientVitEncoder(nn.Module):
    """A drop-in for `Sam.image_encoder`: [B, 3, S, S] -> [B, out_chans, S/16, S/16].

    The last three stages are brought to the embedding's size and added up; residual convolutions follow.
    """

    def __init__(self, config: EfficientVitConfig):
        super().__init__()
        self.img_size = config.image_size
        self.backbone = EfficientVitLarge(
            widths=config.widths, depths=config.depths, head_dim=config.head_dim, head_widths=(1, 1), norm_eps=EPS
        )
        self.backbone.head = nn.Identity()
        for module in self.backbone.modules():
            if isinstance(module, LiteMLA):
                module.eps = 1e-15  # the official code's; timm has 1e-5
        width = config.neck_width
        norm = partial(nn.BatchNorm2d, eps=EPS)
        self.inputs = nn.ModuleList(
            ConvNormAct(before, width, 1, norm_layer=norm, act_layer=None) for before in config.widths[:1:-1]
        )
        self.middle = nn.ModuleList(
            FusedMBConv(width, width, expand_ratio=1, norm_layer=(norm, norm), act_layer=(GELUTanh, None))
            for _ in range(config.neck_depth)
        )
        self.output = nn.Conv2d(width, config.out_chans, 1)
        self.norm = LayerNorm2d(config.out_chans, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        side = self.img_size
        x = F.interpolate(images, (side // 2, side // 2), mode="bilinear")
        maps = self.backbone.forward_intermediates(x, indices=[1, 2, 3], intermediates_only=True)
        grown = [
            F.interpolate(project(level), (side // 16, side // 16), mode="bicubic")
            for project, level in zip(self.inputs, maps[::-1], strict=True)
        ]
        x = torch.stack(grown).sum(0)
        for block in self.middle:
            x = x + block(x)
        return self.norm(self.output(x))


def from_official(state: State) -> State:
    """The image encoder's weights of an official checkpoint (`l2.pt`), under this module's names."""
    marker = "image_encoder."
    found = {key[key.index(marker) + len(marker) :]: value for key, value in state.items() if marker in key}
    return {_renamed(key): value for key, value in (found or state).items()}


def _renamed(key: str) -> str:
    for pattern, name in NAMES:
        key, done = re.subn(pattern, name, key)
        if done:
            break
    return key
