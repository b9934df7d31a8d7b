"""Pictures for reports: masks and prompts drawn onto images, strips of frames, lists of words; videos as files."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = ImageFont.load_default(13)
INK, PAPER, GRID = (40, 40, 40), (255, 255, 255), (225, 225, 225)
COLORS = np.array(
    [
        (230, 80, 60),
        (50, 130, 220),
        (60, 170, 90),
        (240, 180, 40),
        (150, 90, 200),
        (30, 180, 190),
        (230, 110, 170),
        (130, 110, 90),
    ]
)


class Themed(NamedTuple):
    """A picture for light pages and the same for dark ones, uint8 RGB [H, W, 3] each."""

    light: np.ndarray
    dark: np.ndarray


def enlarge(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The image scaled so that its longer side nears `side` pixels, and the factor.

    Small images grow by whole multiples with hard pixels, large ones shrink smoothly.
    """
    longest = max(image.shape[:2])
    factor = max(1, side // longest) if longest <= side else side / longest
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    kind = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(image).resize(size, kind)), factor


def draw_masks(image: np.ndarray, masks: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Masks bool [K, h, w] over a dimmed image uint8 [H, W, 3], a colour each, with outlines."""
    drawn = image.astype(np.float32) * 0.6
    for color, mask in zip(np.resize(COLORS, (len(masks), 3)), masks, strict=True):
        large = np.array(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))
        inner = large.copy()
        inner[1:] &= large[:-1]
        inner[:-1] &= large[1:]
        inner[:, 1:] &= large[:, :-1]
        inner[:, :-1] &= large[:, 1:]
        drawn[large] = (1 - opacity) * drawn[large] + opacity * color
        drawn[large & ~inner] = color
    return drawn.clip(0, 255).astype(np.uint8)


def draw_prompts(
    image: np.ndarray, coords: np.ndarray, boxes: np.ndarray | None, labels: np.ndarray | None = None
) -> np.ndarray:
    """Points (x, y) [N, P, 2] as dots and boxes [N, 4] as frames, in `draw_masks`' colours of the same objects.

    Points whose label [N, P] is 0 (background) are white with a coloured rim.
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    count = len(coords)
    for n, color in enumerate(np.resize(COLORS, (count, 3)).tolist()):
        for p, (x, y) in enumerate(coords[n].tolist()):
            fill, rim = tuple(color), (255, 255, 255)
            if labels is not None and labels[n, p] == 0:
                fill, rim = rim, fill
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=fill, outline=rim, width=2)
        if boxes is not None:
            pen.rectangle(boxes[n].tolist(), outline=tuple(color), width=3)
    return np.array(picture)
