"""Pictures for the report: quality against cost, and what a search finds. All are uint8 RGB, [H, W, 3]."""

import math
from collections.abc import Mapping, Sequence
from textwrap import shorten

import numpy as np
from PIL import Image, ImageDraw

from common.visual import COLORS, FONT, GRID, INK, PAPER

RIGHT = (30, 130, 60)
LEFT, TOP, BOTTOM, EDGE = 60, 30, 46, 24  # margins, pixels

Points = Sequence[tuple[float, float, str]]
"""Cost, quality, and a word beside the point."""


def cost_chart(series: Mapping[str, Points], across: str, up: str, size: tuple[int, int] = (520, 300)) -> np.ndarray:
    """Quality against cost (logarithmic): joined dots for each named series."""
    width, height = size
    points = [point for found in series.values() for point in found]
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    low, high = math.floor(low * 20 - 0.2) / 20, math.ceil(high * 20 + 0.2) / 20
    cheap, dear = math.log10(min(p[0] for p in points)), math.log10(max(p[0] for p in points))
    spread = max(dear - cheap, 1e-6)
    picture = Image.new("RGB", (LEFT + width + EDGE, TOP + height + BOTTOM), PAPER)
    pen = ImageDraw.Draw(picture)

    def at(cost: float, quality: float) -> tuple[float, float]:
        x = LEFT + (0.06 + 0.84 * (math.log10(cost) - cheap) / spread) * width
        return x, TOP + (high - quality) / (high - low) * height

    pen.rectangle((LEFT, TOP, LEFT + width, TOP + height), outline=INK)
    for step in range(round((high - low) * 20) + 1):
        y = at(10**cheap, low + step / 20)[1]
        pen.line((LEFT + 1, y, LEFT + width - 1, y), fill=GRID)
        pen.text((LEFT - 6, y), f"{low + step / 20:.2f}", INK, FONT, anchor="rm")
    for cost in sorted({p[0] for p in points}):
        pen.text((at(cost, low)[0], TOP + height + 6), f"{cost:.3g}", INK, FONT, anchor="mt")
    pen.text((LEFT + width / 2, TOP + height + BOTTOM - 4), across, INK, FONT, anchor="mb")
    pen.text((LEFT, 8), up, INK, FONT)
    for number, (name, found) in enumerate(series.items()):
        color = tuple(COLORS[number % len(COLORS)].tolist())
        places = [at(cost, quality) for cost, quality, _ in found]
        pen.line(places, fill=color, width=2)
        for (x, y), (_, _, word) in zip(places, found, strict=True):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
            pen.text((x + 7, y - 3), word, color, FONT, anchor="ls" if number == 0 else "lt")
        pen.text((LEFT + width - 8, TOP + height - 10 - 18 * number), name, color, FONT, anchor="rs")
    return np.array(picture)


def search_listing(query: str, columns: Mapping[str, Sequence[tuple[str, bool]]]) -> np.ndarray:
    """A query and, for each named exit, what it finds, best first; the right answer in green."""
    wide, rows = 330, max(map(len, columns.values()))
    picture = Image.new("RGB", (20 + wide * len(columns), 62 + 20 * rows), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((12, 8), shorten(f'"{query}"', 40 * len(columns)), INK, FONT)
    for number, (name, found) in enumerate(columns.items()):
        x = 12 + wide * number
        pen.text((x, 32), name, INK, FONT)
        pen.line((x, 50, x + wide - 16, 50), fill=GRID)
        for row, (answer, right) in enumerate(found):
            words = f"{row + 1}. {shorten(answer, 46, placeholder='...')}"
            pen.text((x, 56 + 20 * row), words, RIGHT if right else INK, FONT)
    return np.array(picture)
