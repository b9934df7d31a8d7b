"""Small pictures for the report: matrices as heat maps, curves, panels side by side. All are uint8 RGB, [H, W, 3]."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from common.visual import COLORS, FONT, GRID, INK, PAPER

DARK = np.array((20, 60, 120))
LEFT, TOP, BOTTOM, RIGHT = 62, 24, 40, 16  # margins of a panel, pixels

Curve = tuple[Sequence[float], Sequence[float]]


def heat_map(values: np.ndarray, title: str, across: str, down: str, side: int = 256) -> np.ndarray:
    """A matrix [H, W] of values from 0 (white) to 1 (dark), row 0 on top; `across` and `down` name the axes."""
    shade = values.clip(0, 1)[..., None]
    cells = Image.fromarray(((1 - shade) * 255 + shade * DARK).astype(np.uint8))
    picture, pen = _panel(side, side, title, across, down)
    picture.paste(cells.resize((side, side), Image.Resampling.NEAREST), (LEFT, TOP))
    pen.rectangle((LEFT - 1, TOP - 1, LEFT + side, TOP + side), outline=INK)
    return np.array(picture)


def line_chart(
    curves: Mapping[str, Curve | list[Curve]],
    title: str,
    across: str,
    up: str,
    high: float,
    size: tuple[int, int] = (400, 220),
) -> np.ndarray:
    """Named curves (x, y), or bundles of them in one colour, from y = 0 to `high`; what is higher is cut off."""
    width, height = size
    bundles = {name: found if isinstance(found, list) else [found] for name, found in curves.items()}
    xs = np.concatenate([np.asarray(x, float) for bundle in bundles.values() for x, _ in bundle])
    low, wide = xs.min(), (xs.max() - xs.min()) or 1.0
    picture, pen = _panel(width, height, title, across, up)
    for share in (0.0, 0.5, 1.0):
        y = TOP + (1 - share) * height
        pen.line((LEFT, y, LEFT + width, y), fill=GRID)
        pen.text((LEFT - 5, y), f"{share * high:.2g}", INK, FONT, anchor="rm")
        x = LEFT + share * width
        pen.text((x, TOP + height + 4), f"{low + share * wide:.3g}", INK, FONT, anchor="mt")
    for number, (name, bundle) in enumerate(bundles.items()):
        color = tuple(COLORS[number % len(COLORS)].tolist())
        for x, y in bundle:
            across_pixels = LEFT + (np.asarray(x, float) - low) / wide * width
            up_pixels = TOP + height * (1 - np.clip(np.asarray(y, float) / high, 0, 1))
            pen.line(list(zip(across_pixels.tolist(), up_pixels.tolist(), strict=True)), fill=color, width=2)
        pen.text((LEFT + width - 4, TOP + 4 + 17 * number), name, color, FONT, anchor="rt")
    return np.array(picture)


def side_by_side(*panels: np.ndarray) -> np.ndarray:
    """Panels of one height in a row."""
    return np.concatenate(panels, axis=1)


def _panel(width: int, height: int, title: str, across: str, up: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty panel around a plot of this size, with its title and the names of its axes."""
    picture = Image.new("RGB", (LEFT + width + RIGHT, TOP + height + BOTTOM), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((LEFT, 5), title, INK, FONT)
    pen.text((LEFT + width / 2, TOP + height + BOTTOM - 4), across, INK, FONT, anchor="mb")
    length = round(FONT.getlength(up)) + 2
    turned = Image.new("RGB", (length, 18), PAPER)
    ImageDraw.Draw(turned).text((1, 1), up, INK, FONT)
    picture.paste(turned.rotate(90, expand=True), (1, TOP + (height - length) // 2))
    return picture, pen
