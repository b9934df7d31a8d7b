"""A stand-in for SA-1B: made-up images with masks, in its on-disk format."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.data.readers.sa1b import IMAGES_PER_TAR, pack_sa1b, write_sa1b


def make_sa1b(
    folder: str | Path, images: int = 4, resolution: tuple[int, int] = (96, 144), tar: bool = True, first: int = 1
) -> Path:
    """Write `images` images named sa_<first>, sa_<first + 1>, ...; the same arguments give the same files.

    Args:
        resolution: (H, W) in pixels; the released images have 1500 on their shorter side.
        tar: pack them into a tar, named as the one that holds sa_<first> in the release; else leave them unpacked.

    Returns:
        The tar, or the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not tar:
        for number in range(first, first + images):
            write_sa1b(folder, f"sa_{number}", *make_scene(number, resolution))
        return folder
    path = folder / f"sa_{first // IMAGES_PER_TAR:06d}.tar"
    with TemporaryDirectory() as unpacked:
        make_sa1b(unpacked, images, resolution, tar=False, first=first)
        pack_sa1b(Path(unpacked), path)
    return path


def make_scene(number: int, resolution: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Six coloured rectangles and discs on a noisy background: uint8 [H, W, 3], bool [6, H, W] (overlapping)."""
    rng = np.random.default_rng(number)
    height, width = resolution
    image = rng.normal(rng.uniform(60, 200, 3), 8, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    masks = []
    for k in range(6):
        cy, cx = rng.uniform(0.2, 0.8, 2) * resolution
        ry, rx = rng.uniform(0.1, 0.3, 2) * min(resolution)
        if k % 2:
            mask = (np.abs(y - cy) <= ry) & (np.abs(x - cx) <= rx)
        else:
            mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        image[mask] = rng.normal(rng.uniform(0, 255, 3), 8, (int(mask.sum()), 3))
        masks.append(mask)
    return image.clip(0, 255).astype(np.uint8), np.stack(masks)
