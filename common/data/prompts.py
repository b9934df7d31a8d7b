"""Prompts for promptable segmentation: drawn from masks in NumPy, batched as tensors.

Coordinates are (x, y) = (column, row) pixel indices counted from 0, SAM's convention: SAM's prompt encoder itself adds
0.5 to reach the pixel's centre, so nothing is added here. A box is (x0, y0, x1, y1), the indices of its first and last
columns and rows, both inside. All samplers take masks bool [N, H, W] and draw one prompt for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FOREGROUND, BACKGROUND, NOT_A_POINT = 1, 0, -1  # SAM's point labels


@dataclass
class Prompts:
    """N prompt sets, each of them P points, a box, or both; each yields one (or one ambiguous) mask.

    Attributes:
        coords: float32 (x, y), [N, P, 2]; P may be 0 where there are boxes.
        labels: int64, 1 foreground, 0 background, -1 not a point (padding), [N, P].
        boxes: float32 (x0, y0, x1, y1), [N, 4], or None.
        image: row of each set's image in its batch, int64 [N].
    """

    coords: Tensor
    labels: Tensor
    boxes: Tensor | None
    image: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> "Prompts":
        """The same prompts on another device."""
        boxes = None if self.boxes is None else self.boxes.to(device)
        return Prompts(self.coords.to(device), self.labels.to(device), boxes, self.image.to(device))


def point_prompts(coords: np.ndarray, labels: np.ndarray) -> Prompts:
    """Prompts of one image from points [N, P, 2] and labels [N, P]."""
    return Prompts(
        torch.as_tensor(coords, dtype=torch.float32),
        torch.as_tensor(labels, dtype=torch.int64),
        None,
        torch.zeros(len(coords), dtype=torch.int64),
    )


def box_prompts(boxes: np.ndarray) -> Prompts:
    """Prompts of one image from boxes [N, 4], without points."""
    n = len(boxes)
    return Prompts(
        torch.zeros(n, 0, 2),
        torch.zeros(n, 0, dtype=torch.int64),
        torch.as_tensor(boxes, dtype=torch.float32),
        torch.zeros(n, dtype=torch.int64),
    )


def collate_prompts(items: Sequence[Prompts]) -> Prompts:
    """One batch of the prompts of several images: item i belongs to image i. All items must be of the same kind."""
    boxes = [item.boxes for item in items if item.boxes is not None]
    if boxes and len(boxes) != len(items):
        raise ValueError("prompts with and without boxes cannot share a batch")
    return Prompts(
        torch.cat([item.coords for item in items]),
        torch.cat([item.labels for item in items]),
        torch.cat(boxes) if boxes else None,
        torch.repeat_interleave(torch.arange(len(items)), torch.tensor([len(item) for item in items])),
    )


def sample_points(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn pixel of each mask, float32 [N, 2]. ValueError if a mask is empty."""
    height, width = masks.shape[1:]
    area = _areas(masks)
    pixels = np.flatnonzero(masks)  # mask after mask
    drawn = pixels[np.cumsum(area) - area + rng.integers(area)] % (height * width)
    return np.stack([drawn % width, drawn // width], -1).astype(np.float32)


def sample_point_pairs(masks: np.ndarray, distance: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A foreground point and a background point `distance` pixels away (MobileSAM, Table 7), for each mask.

    The foreground point is a uniformly drawn pixel of the mask; the background point lies outside the mask at a random
    direction (to the nearest pixel). Where no such pixel exists the background pixel whose distance comes closest is
    taken, and where the mask fills the image the second label is -1. The paper does not say how it drew the pairs.

    Returns:
        coords float32 [N, 2, 2] (foreground first), labels int64 [N, 2].
    """
    height, width = masks.shape[1:]
    foreground = sample_points(masks, rng)
    rows = np.arange(len(masks))

    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False) + 2 * np.pi * rng.random((len(masks), 1))
    ring = np.rint(foreground[:, None] + distance * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(int)
    x, y = ring[..., 0].clip(0, width - 1), ring[..., 1].clip(0, height - 1)
    valid = (x == ring[..., 0]) & (y == ring[..., 1]) & ~masks[rows[:, None], y, x]
    chosen = np.where(valid, rng.random(valid.shape), -1).argmax(1)
    background = ring[rows, chosen].astype(np.float32)
    labels = np.tile(np.array([FOREGROUND, BACKGROUND]), (len(masks), 1))

    for i in np.flatnonzero(~valid.any(1)):
        outside = np.argwhere(~masks[i])[:, ::-1]
        if len(outside):
            reach = np.hypot(*(outside - foreground[i]).T)
            background[i] = outside[np.abs(reach - distance).argmin()]
        else:
            background[i], labels[i, 1] = foreground[i], NOT_A_POINT
    return np.stack([foreground, background], 1), labels


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """The smallest box round each mask, float32 [N, 4]. ValueError if a mask is empty."""
    _areas(masks)
    height, width = masks.shape[1:]
    rows, columns = np.any(masks, axis=2), np.any(masks, axis=1)
    x0, x1 = columns.argmax(1), width - 1 - columns[:, ::-1].argmax(1)
    y0, y1 = rows.argmax(1), height - 1 - rows[:, ::-1].argmax(1)
    return np.stack([x0, y0, x1, y1], -1).astype(np.float32)


def jitter_boxes(
    boxes: np.ndarray,
    image_shape: tuple[int, int],
    rng: np.random.Generator,
    std: float = 0.1,
    limit: float | None = None,
) -> np.ndarray:
    """Boxes as people draw them: normal noise on each coordinate, kept inside the image (SAM, appendix A).

    Args:
        boxes: [N, 4].
        image_shape: (H, W) of the image.
        std: standard deviation over the box's side in that direction.
        limit: largest shift in pixels; None scales SAM's 20 pixels at 1024 to the image's longer side.

    Returns:
        float32 [N, 4], with x0 <= x1 and y0 <= y1.
    """
    height, width = image_shape
    limit = 20 * max(image_shape) / 1024 if limit is None else limit
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    noise = rng.normal(size=boxes.shape) * std * np.tile(sides, 2)
    moved = (boxes + noise.clip(-limit, limit)).clip(0, [width - 1, height - 1] * 2)
    first, last = moved[:, :2], moved[:, 2:]  # the noise may have carried one past the other
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], 1).astype(np.float32)


def _areas(masks: np.ndarray) -> np.ndarray:
    area = masks.sum((1, 2))
    if not area.all():
        raise ValueError(f"mask {int(area.argmin())} of {len(masks)} is empty: no prompt can be drawn from it")
    return area
