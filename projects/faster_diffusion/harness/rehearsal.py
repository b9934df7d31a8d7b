"""Stand-ins for what the paper's configs read: COCO 2017, Inception, and narrow models under the hub's ids."""

from pathlib import Path

import torch

from common.rehearsal.datasets import make_coco
from common.rehearsal.hub import write_hub
from common.rehearsal.metric_models import write_inception

HUB = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "openai/clip-vit-base-patch32")


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    make_coco(folder / "data/coco", "val", images=4)
    torch.manual_seed(0)
    write_inception(folder / "weights/pt_inception-2015-12-05-6726825d.pth")
    write_hub(folder / "hub", HUB)
