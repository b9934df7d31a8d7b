"""Stand-ins for what the paper's configs read: ImageNet and another set as CoOp lays them out, narrow CLIPs."""

from pathlib import Path

from common.rehearsal.image_hubs import write_open_clip
from common.rehearsal.zero_shot_sets import make_zero_shot_set

CLASSES = ("tench", "great white shark", "drake", "hen")


def make(folder: Path) -> None:
    """Write `data/` and `hub/` into `folder`."""
    make_zero_shot_set(folder / "data", "imagenet", CLASSES, images=4)
    make_zero_shot_set(folder / "data", "dtd", ("banded", "chequered", "polka-dotted"), images=4)
    for name in ("ViT-L-14", "ViT-B-16", "ViT-B-32"):
        write_open_clip(folder / "hub", f"{name}-quickgelu", "openai", narrow=True)
