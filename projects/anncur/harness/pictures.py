"""Pictures for the report, uint8 RGB [H, W, 3]: recall over numbers of anchors, a matrix's spectrum, one search."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.data.linking import Entity, Mention
from projects.anncur.recall import effective_rank, top

Array = np.ndarray
Colour = tuple[int, int, int]
FONT, SMALL = ImageFont.load_default(14), ImageFont.load_default(12)
INK, PALE, PAPER, BLUE, RED = (40, 40, 40), (150, 150, 150), (255, 255, 255), (20, 60, 120), (190, 40, 40)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), PAPER)
    return picture, ImageDraw.Draw(picture)


def draw_grid(recall: Array, queries: Sequence[int], items: Sequence[int]) -> Array:
    """Recall [len(queries), len(items)] as a heat map with figures: a row per k_q, a column per k_i."""
    cell, left, above = 58, 70, 52
    picture, pen = _canvas(left + cell * len(items) + 12, above + 34 * len(queries) + 12)
    pen.text((left + cell * len(items) / 2, 6), "anchor items", INK, FONT, anchor="mt")
    pen.text((8, above - 20), "anchor\nqueries", INK, SMALL, spacing=0)
    for j, count in enumerate(items):
        pen.text((left + cell * (j + 0.5), above - 6), str(count), INK, FONT, anchor="mb")
    for i, count in enumerate(queries):
        y = above + 34 * i
        pen.text((left - 8, y + 17), str(count), INK, FONT, anchor="rm")
        for j, value in enumerate(recall[i]):
            shade = tuple(round(255 + value * (dark - 255)) for dark in BLUE)
            x = left + cell * j
            frame = RED if items[j] == count else PAPER  # where k_i = k_q
            pen.rectangle((x, y, x + cell - 3, y + 31), fill=shade, outline=frame, width=2)
            pen.text((x + cell / 2 - 1, y + 16), f"{value:.2f}", PAPER if value > 0.5 else INK, FONT, anchor="mm")
    return np.array(picture)


def draw_scores(scores: Array) -> Array:
    """Singular values of a score matrix [M, N] (logarithmic), and the distribution of its scores."""
    side, left, height = 190, 52, 150
    picture, pen = _canvas(2 * (left + side) + 16, height + 64)
    values = np.linalg.svd(scores.astype(np.float64), compute_uv=False)
    spectrum = np.log10(np.maximum(values / values[0], 1e-6))
    counts, edges = np.histogram(scores, 60)
    rank = effective_rank(scores)
    curves = [
        (spectrum / 6 + 1, ("1", "1e-3", "1e-6"), ("1", str(len(values))), f"singular values; rank {rank} for 99 %"),
        (counts / counts.max(), ("", "", ""), (f"{edges[0]:.3g}", f"{edges[-1]:.3g}"), "distribution of the scores"),
    ]
    for number, (curve, marks, ends, title) in enumerate(curves):
        x, y = left + number * (left + side), 28
        pen.text((x + side / 2, 6), title, INK, SMALL, anchor="mt")
        pen.rectangle((x, y, x + side, y + height), outline=PALE)
        for share, mark in zip((0.0, 0.5, 1.0), marks, strict=True):
            pen.text((x - 5, y + share * height), mark, INK, SMALL, anchor="rm")
        for share, end, anchor in zip((0, side), ends, ("lt", "rt"), strict=True):
            pen.text((x + share, y + height + 5), end, INK, SMALL, anchor=anchor)
        across = x + np.linspace(0, side, len(curve))
        up = y + height * (1 - curve)
        pen.line(list(zip(across.tolist(), up.tolist(), strict=True)), fill=BLUE, width=2)
        if number == 0:
            at = across[min(rank, len(across)) - 1]
            pen.line((at, y, at, y + height), fill=RED)
    return np.array(picture)


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
