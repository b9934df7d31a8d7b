"""What `make speed PAPER=proclip` measures: what reads a text in CLIP, and what reads its embedding in ProCLIP."""

from typing import Any

import torch
from torch import Tensor, nn

from common.workload import Network, Speed
from projects.proclip.harness.plan import CONTEXT, build
from projects.proclip.model import Adapter

TEXT, ADAPTER = "CLIP ViT-L/14's text encoder", "adapter of a 4096-wide language model"


class TextTower(nn.Module):
    """CLIP's text encoder alone."""

    def __init__(self, clip: Any):
        super().__init__()
        del clip.visual
        self.clip = clip

    def forward(self, ids: Tensor) -> Tensor:
        return self.clip.encode_text(ids)


def speed() -> Speed:
    """The adapter's time is beside the language model's, which reads a text once and for all."""
    return Speed(networks=(Network(TEXT, _text, giant=True), Network(ADAPTER, _adapter, TEXT, giant=True)))


def _text() -> tuple[nn.Module, tuple[Tensor, ...]]:
    tower = TextTower(build("ViT-L-14-quickgelu"))
    return tower.eval(), (torch.zeros(1, CONTEXT, dtype=torch.long),)


def _adapter() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Adapter(4096, 768).eval(), (torch.zeros(1, 4096),)
