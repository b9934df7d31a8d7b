"""Stand-ins for what the paper's configs read: made-up images in SA-1B's format, random weights in SAM's."""

from pathlib import Path

import torch

from common.models.sam import SamConfig, build_sam
from common.rehearsal.sa1b import make_sa1b

SAM = SamConfig(image_size=160, embed_dim=32)
"""ViT-H but for its width and its input; all of its checkpoint's keys. The sizes of `configs/rehearsal/*.yaml`."""


def make(folder: Path) -> None:
    """Write `data/sa1b/{train,test}/*.tar` and `weights/sam_vit_h_4b8939.pth` into `folder`.

    Two training batches; for testing more than the 200 images that the paper measures on, because validation has those
    after them.
    """
    make_sa1b(folder / "data/sa1b/train", images=16)
    make_sa1b(folder / "data/sa1b/test", images=204, resolution=(40, 60), first=11186)
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(build_sam(SAM).state_dict(), weights / "sam_vit_h_4b8939.pth")
