"""Stand-ins for what the paper's configs read: made-up pictures in ImageNet's folders, narrow and shallow networks."""

from pathlib import Path

import torch
from torch import nn

from common.rehearsal.datasets import make_image_folder
from common.rehearsal.image_hubs import write_timm
from projects.sit.backbone import Net, build
from projects.sit.recipe import DEIT, NARROW, OTHER_SIZES, REGNET

SYNSETS = tuple(f"n{number:08d}" for number in range(20))
"""Fewer than the 1,000 classes of the heads."""


def make(folder: Path) -> None:
    """Write `data/imagenet/{train,val}/<synset>/*.JPEG`, LV-ViT's weight files, and two networks of timm's.

    More than 500 training pictures: every 500th is for validation, and each of two processes needs one.
    """
    for split, images in (("train", 26), ("val", 1)):
        root = folder / "data/imagenet" / split
        make_image_folder(root, SYNSETS, images, resolution=(48, 64))
        for file in root.rglob("*.jpg"):
            file.rename(file.with_suffix(".JPEG"))
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for size, (_, sizes, _) in ({"small": ("", {}, {})} | OTHER_SIZES).items():
        net = Net(**(sizes | NARROW))
        auxiliary = nn.Linear(net.dim, net.classes)  # published with the weights, and not used
        state = build(net).state_dict() | {f"aux_head.{k}": v for k, v in auxiliary.state_dict().items()}
        torch.save({"model": state}, folder / f"weights/lvvit_{size}.pth")
    write_timm(folder / "hub", DEIT, embed_dim=32, num_heads=2, depth=NARROW["depth"])
    write_timm(folder / "hub", REGNET, w0=8, wa=20.0, wm=2.0, group_size=8, depth=8)
