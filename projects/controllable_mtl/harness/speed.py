"""What `make speed PAPER=controllable_mtl` measures: NYUDv2's network at its widest, at its smallest and in between."""

from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from common.workload import Network, Speed
from projects.controllable_mtl.bench import Deployed
from projects.controllable_mtl.model import Configuration, Sizes, SuperNet
from projects.controllable_mtl.tasks import Task

CONFIG = Path(__file__).parents[1] / "configs/paper/base.yaml"
WHOLE = "SuperNet"
OTHERS = {
    "SubNet of a quarter": (0.25, 0.25),
    "SubNet of a half": (0.5, 0.5),
    "Encoder of a half": (0.5, 1.0),
    "Decoders of a quarter": (1.0, 0.25),
}
"""Ratios of the encoder and of all decoders."""


def speed() -> Speed:
    """Sizes and operations; the paper names no device."""
    networks = {name: _built(*ratios) for name, ratios in {WHOLE: (1.0, 1.0), **OTHERS}.items()}
    return Speed(
        tuple(Network(name, build, "" if name == WHOLE else WHOLE, giant=True) for name, build in networks.items())
    )


def _built(encoder: float, decoder: float) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
        config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        net = SuperNet(Sizes(**config["model"]["net"]), [Task(**task) for task in config["model"]["tasks"]])
        full = net.full
        widths = Configuration((encoder,) * len(full.encoder), (decoder,) * len(full.decoders))
        return Deployed(net, widths), (torch.zeros(1, 3, *config["data"]["size"]),)

    return build
