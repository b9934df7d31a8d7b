"""Pictures for the report: what a text finds."""

from collections.abc import Sequence

import numpy as np

from common.data.images import square
from common.visual import enlarge

SIDE, RIM = 96, 4
RIGHT, OTHER = (40, 150, 60), (225, 225, 225)


def draw_search(images: Sequence[np.ndarray], rows: Sequence[int], right: int) -> np.ndarray:
    """The best pictures of a search beside each other, the best one first, the right one framed in green.

    Args:
        images: uint8 RGB [H, W, 3] each.
        rows: their numbers.
        right: number of the one that is meant.
    """
    drawn = []
    for image, row in zip(images, rows, strict=True):
        shown, _ = enlarge(square(image, min(SIDE, *image.shape[:2])), SIDE)
        framed = np.full((SIDE + 2 * RIM, SIDE + 2 * RIM, 3), RIGHT if row == right else OTHER, np.uint8)
        framed[RIM : RIM + shown.shape[0], RIM : RIM + shown.shape[1]] = shown
        drawn.append(framed)
    return np.concatenate(drawn, axis=1)
