"""Pictures for the report: recall over numbers of anchors, a matrix's spectrum, one search."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common import charts
from common.data.linking import Entity, Mention
from common.visual import Themed
from projects.anncur.recall import effective_rank, top

Array = np.ndarray
Colour = tuple[int, int, int]
FONT = ImageFont.load_default(14)
INK, PALE, PAPER, RED = (40, 40, 40), (150, 150, 150), (255, 255, 255), (190, 40, 40)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), PAPER)
    return picture, ImageDraw.Draw(picture)


def draw_grid(recall: Array, queries: Sequence[int], items: Sequence[int]) -> Themed:
    """Recall [len(queries), len(items)] as a heat map with figures: a row per k_q, a column per k_i."""
    # where k_q = k_i
    framed = [(i, j) for i, k_q in enumerate(queries) for j, k_i in enumerate(items) if k_q == k_i]
    columns, rows = ([str(count) for count in counts] for counts in (items, queries))
    size = (120 + 62 * len(items), 90 + 44 * len(queries))
    return charts.heat_map(recall, "anchor items", "anchor queries", "", columns, rows, framed, size)


def draw_scores(scores: Array) -> Themed:
    """Singular values of a score matrix [M, N] (logarithmic), and the distribution of its scores."""
    values = np.linalg.svd(scores.astype(np.float64), compute_uv=False)
    share = np.maximum(values / values[0], 1e-6).tolist()
    rank = effective_rank(scores)
    spectrum = charts.line_chart(
        [charts.Line(range(1, len(share) + 1), share)],
        "number of the singular value",
        "share of the largest",
        f"singular values; rank {rank} for 99 %",
        log_y=True,
        mark=rank,
    )
    return charts.side_by_side(spectrum, charts.histogram(scores, "score", "distribution of the scores"))


def draw_mention(mention: Mention) -> Array:
    """A mention, dark, between as much of its context as fits."""
    picture, pen = _canvas(560, 28)
    width = pen.textlength(mention.mention, FONT)
    pen.text((280, 14), mention.mention, RED, FONT, anchor="mm")
    pen.text((280 - width / 2 - 6, 14), mention.left[-60:], PALE, FONT, anchor="rm")
    pen.text((280 + width / 2 + 6, 14), mention.right[:60], PALE, FONT, anchor="lm")
    return np.array(picture)


def draw_search(entities: Sequence[Entity], exact: Array, candidates: Array, gold: int) -> Array:
    """The exact top ten of one query: found by the search (dark) or missed (red).

    Args:
        entities: all N of them.
        exact: scores of all items, [N].
        candidates: the items that were scored exactly.
        gold: the entity that is really meant, marked with a star.
    """
    picture, pen = _canvas(560, 10 * 19 + 8)
    for place, item in enumerate(top(exact, 10).tolist()):
        hit, y = item in candidates, 4 + 19 * place
        colour: Colour = INK if hit else RED
        pen.text((24, y), f"{exact[item]:.2f}", colour, FONT, anchor="lt")
        pen.text((84, y), f"{entities[item].title}: {entities[item].text}"[:75], colour, FONT, anchor="lt")
        pen.text((8, y), "*" if item == gold else "", colour, FONT, anchor="lt")
        if not hit:
            pen.line((84, y + 6, 552, y + 6), fill=RED)
    return np.array(picture)
