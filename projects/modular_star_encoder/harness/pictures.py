"""Pictures for the report: quality against cost, and what a search finds."""

from collections.abc import Mapping, Sequence
from textwrap import shorten

import numpy as np
from PIL import Image, ImageDraw

from common.charts import Line, line_chart
from common.visual import FONT, GRID, INK, PAPER, Themed

RIGHT = (30, 130, 60)

Points = Sequence[tuple[float, float, str]]
"""Cost, quality, and a word beside the point."""


def cost_chart(series: Mapping[str, Points], across: str, up: str) -> Themed:
    """Quality against cost (logarithmic): joined dots for each named series."""
    lines = []
    for name, points in series.items():
        costs, qualities, words = zip(*points, strict=True)
        lines.append(Line(costs, qualities, name, words=words, dots=True))
    ticks = {cost: f"{cost:.3g}" for line in lines for cost in line.x}
    return line_chart(lines, across, up, log_x=True, ticks=ticks, size=(600, 380))


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
