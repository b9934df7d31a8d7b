"""What is minimised, and the anomaly map: distances of the student's maps from the teacher's (utils/functions.py)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from common.losses.features import cosine_distance

Weighting = Literal["deep", "equal"]


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half of the squared distance of two maps [B, C, H, W] whose vectors have length 1, at each position: [B, H, W].

    It is 1 - cos, but 0.5 rather than 1 where one of the vectors is zero, as ReLU can leave them.
    """
    return 0.5 * (F.normalize(teacher) - F.normalize(student)).square().sum(1)


def position_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """DBFAD's loss of each picture, [B]: the mean over levels of the distance's mean over positions.

    The official code adds up a batch's. Adam does not heed that, but for the last batch of an epoch, which is smaller.
    """
    return torch.stack([distance(s, t).mean((1, 2)) for s, t in zip(student, teacher, strict=True)]).mean(0)


def flat_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """RD4AD's (Deng & Li 2022) of each picture, [B]: the sum over levels of 1 - cos of whole maps as vectors."""
    return torch.stack(
        [cosine_distance(s.flatten(1), t.flatten(1)) for s, t in zip(student, teacher, strict=True)]
    ).sum(0)


def anomaly_map(
    student: Sequence[Tensor], teacher: Sequence[Tensor], size: int, weighting: Weighting = "deep"
) -> Tensor:
    """The levels' distances, scaled to the picture's size and added up.

    Args:
        size: side S of the picture, pixels.
        weighting: "deep" divides each by its number of positions, so that a map of half the side counts four times as
            much: the paper's emphasis on high-level features. "equal" does not, and is RD4AD's.

    Returns:
        [B, S, S].
    """
    found = torch.zeros(len(student[0]), 1, size, size, device=student[0].device)
    for s, t in zip(student, teacher, strict=True):
        level = distance(s, t)[:, None]
        if weighting == "deep":
            level = level / (level.shape[2] * level.shape[3])
        found = found + F.interpolate(level, (size, size), mode="bilinear", align_corners=False)
    return found[:, 0]


def smooth(maps: Tensor, sigma: float, rows: bool = False) -> np.ndarray:
    """Maps [B, S, S], each filtered by a Gaussian of sigma pixels.

    Args:
        rows: along rows alone, as the official code does with a single picture.
    """
    axes = (0.0 if rows else sigma, sigma)
    return np.stack([gaussian_filter(one, axes) for one in maps.float().cpu().numpy()])
