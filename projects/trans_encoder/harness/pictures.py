"""Pictures for the report: scores against the truth, agreement by cycle, some pairs. All are uint8 RGB, [H, W, 3]."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import rankdata

from common.data.pairs import Pair
from common.visual import COLORS, FONT, GRID, INK, PAPER

MARGIN, TOP = 44, 26


def scatter(gold: Sequence[float], panels: Mapping[str, Sequence[float]], side: int = 240) -> np.ndarray:
    """A panel for each named list of scores: ranks by the gold score across, by the model's up; both from 0 to 1."""
    picture = Image.new("RGB", (len(panels) * (side + MARGIN) + 12, side + TOP + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    for number, (name, scores) in enumerate(panels.items()):
        left = MARGIN - 8 + number * (side + MARGIN)
        pen.rectangle((left, TOP, left + side, TOP + side), outline=INK)
        pen.text((left, 6), f"{name}: rank by its score, up", INK, FONT)
        pen.text((left + side / 2, TOP + side + 6), "rank by the gold score", INK, FONT, anchor="mt")
        color = tuple(COLORS[number].tolist())
        for x, y in zip(ranks(gold), ranks(scores), strict=True):
            across, up = left + x * side, TOP + (1 - y) * side
            pen.ellipse((across - 1, up - 1, across + 1, up + 1), fill=color)
    return np.array(picture)


def cycles_chart(start: float, lines: Mapping[str, Sequence[float]], width: int = 380, height: int = 220) -> np.ndarray:
    """Agreement before the first cycle (one dashed line across) and after each, a line for each kind of model."""
    values = [start, *(value for line in lines.values() for value in line)]
    low, high = min(values) - 1, max(values) + 1
    steps = max(map(len, lines.values()))
    picture = Image.new("RGB", (MARGIN + width + 20, TOP + height + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)

    def at(cycle: float, value: float) -> tuple[float, float]:
        return MARGIN + cycle / steps * width, TOP + (high - value) / (high - low) * height

    pen.rectangle((*at(0, high), *at(steps, low)), outline=INK)
    for share in (0.25, 0.5, 0.75):
        value = low + share * (high - low)
        pen.line((at(0, value), at(steps, value)), fill=GRID)
        pen.text((MARGIN - 6, at(0, value)[1]), f"{value:.1f}", INK, FONT, anchor="rm")
    for cycle in range(steps + 1):
        pen.text((at(cycle, low)[0], at(cycle, low)[1] + 6), str(cycle) if cycle else "start", INK, FONT, anchor="mt")
    pen.text((MARGIN + width / 2, TOP + height + 26), "cycle", INK, FONT, anchor="mt")
    for number, (name, line) in enumerate(lines.items()):
        color = tuple(COLORS[number].tolist())
        # both begin at the one bi-encoder there is; a cycle's cross-encoder comes half a cycle before its bi-encoder
        early = 0.5 if name.startswith("cross") else 0.0
        points = [at(0, start), *(at(cycle + 1 - early, value) for cycle, value in enumerate(line))]
        pen.line(points, fill=color, width=2)
        for x, y in points:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
        pen.text((MARGIN + 4 + 130 * number, 6), name, color, FONT)
    return np.array(picture)


def listing(pairs: Sequence[Pair], gold: Sequence[float], panels: Mapping[str, Sequence[float]]) -> np.ndarray:
    """The first pairs with the share of all pairs that score lower: by the gold score, and by each model."""
    columns = {"gold": ranks(gold), **{name.removesuffix("-encoder"): ranks(scores) for name, scores in panels.items()}}
    blocks = [[*wrap(pair.a, 88)[:2], *wrap(pair.b, 88)[:2]] for pair in pairs]
    height = TOP + sum(17 * len(block) + 12 for block in blocks)
    picture = Image.new("RGB", (640 + 60 * len(columns), height), PAPER)
    pen = ImageDraw.Draw(picture)
    for number, name in enumerate(columns):
        pen.text((640 + 60 * number, 6), name, INK, FONT)
    y = TOP
    for row, block in enumerate(blocks):
        pen.line((8, y - 3, picture.width - 8, y - 3), fill=GRID)
        for number, line in enumerate(block):
            pen.text((8, y + 17 * number), line, INK, FONT)
        for number, values in enumerate(columns.values()):
            pen.text((640 + 60 * number, y + 8), f"{values[row]:.2f}", INK, FONT)
        y += 17 * len(block) + 12
    return np.array(picture)


def ranks(values: Sequence[float]) -> np.ndarray:
    """From 0 (lowest) to 1 (highest); equal values share a rank."""
    return (rankdata(values) - 1) / max(1, len(values) - 1)
