"""Pictures for the report: scores against the truth, agreement by cycle, some pairs."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import rankdata

from common import charts
from common.data.pairs import Pair
from common.visual import FONT, GRID, INK, PAPER, Themed

TOP = 26


def scatter(gold: Sequence[float], panels: Mapping[str, Sequence[float]]) -> Themed:
    """A panel for each named list of scores: ranks by the gold score across, by the model's up; both from 0 to 1."""
    return charts.side_by_side(
        *(
            charts.scatter(ranks(gold), ranks(scores), "rank by the gold score", "rank by its score", name, number)
            for number, (name, scores) in enumerate(panels.items())
        )
    )


def cycles_chart(start: float, kinds: Mapping[str, Sequence[float]]) -> Themed:
    """Agreement before the first cycle and after each, a line for each kind of model.

    Both begin at the one bi-encoder there is; a cycle's cross-encoder comes half a cycle before its bi-encoder.
    """
    lines = []
    for name, values in kinds.items():
        early = 0.5 if name.startswith("cross") else 0.0
        cycles = [0.0, *(cycle + 1 - early for cycle in range(len(values)))]
        lines.append(charts.Line(cycles, [start, *values], name, dots=True))
    ticks = {float(cycle): str(cycle) if cycle else "start" for cycle in range(max(map(len, kinds.values())) + 1)}
    return charts.line_chart(lines, "cycle", "agreement x 100", ticks=ticks)


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
