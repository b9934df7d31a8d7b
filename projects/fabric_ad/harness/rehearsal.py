"""Stand-ins for what the paper's configs read: drawn pieces in each data set's layout, ResNets of random weights."""

from pathlib import Path

import numpy as np
from PIL import Image

from common.rehearsal.image_hubs import write_timm
from projects.fabric_ad.defects import spoil
from projects.fabric_ad.recipe import TYPES
from projects.fabric_ad.weaves import fabric

GOOD, TESTED = 10, 3
"""Pieces without a fault to train on, and of each kind to test on."""
SIDE = 96
"""Of the pieces, pixels; AITEX's strips are twice as wide as high."""
RESNETS = ("resnet18.a1_in1k", "resnet34.a1_in1k")


def make(folder: Path) -> None:
    """Write `data/{mvtec_ad,industrial,aitex,tilda}`, and timm's ResNets into `hub/`."""
    data = folder / "data"
    _mvtec(data / "mvtec_ad/carpet", "color", masks=True)
    for category in TYPES[:3]:
        _mvtec(data / "industrial" / category, "anomaly", masks=False)
    for k in range(4):
        _save(data / f"aitex/NODefect_images/2306881-210020u/{k:04d}_000_00.png", _piece(k, 2 * SIDE)[:SIDE])
    strip, mask = _faulty(9, 2 * SIDE)
    _save(data / "aitex/Defect_images/0001_002_00.png", strip[:SIDE])
    _save(data / "aitex/Mask_images/0001_002_00_mask.png", np.maximum(mask[:SIDE], mask[SIDE:]))
    for k in range(GOOD):
        _save(data / f"tilda/C1R1E0N{k + 1}.TIF", _piece(k, SIDE)[: SIDE * 2 // 3])
    for fault in range(1, 5):
        _save(data / f"tilda/C1R1E{fault}N1.TIF", _faulty(fault, SIDE)[0][: SIDE * 2 // 3])
    for name in RESNETS:
        write_timm(folder / "hub", name)


def _mvtec(folder: Path, fault: str, masks: bool) -> None:
    for k in range(GOOD + TESTED):
        part = "train" if k < GOOD else "test"
        _save(folder / f"{part}/good/{k:03d}.png", _piece(k, SIDE))
    for k in range(TESTED):
        image, mask = _faulty(k, SIDE)
        _save(folder / f"test/{fault}/{k:03d}.png", image)
        if masks:
            _save(folder / f"ground_truth/{fault}/{k:03d}_mask.png", mask)


def _piece(number: int, side: int) -> np.ndarray:
    return fabric("twill", np.random.default_rng(number), side)


def _faulty(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = spoil(_piece(number, side), "stain", np.random.default_rng(number))
    return image, mask.astype(np.uint8) * 255


def _save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)
