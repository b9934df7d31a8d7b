"""The world of glyphs: captioned pictures of 8 x 8 pixels, small enough to train a diffusion model on in minutes.

A picture has four cells; in two of them stands a glyph of one colour. Its caption names colour, glyph and cell of both,
in the order of the cells: "red block northwest blue slash southeast". `read_slots` reads a picture back.
"""

from functools import cache
from itertools import combinations, product

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from common.data.images import Picture, PictureSource
from common.errors import unknown

COLOURS = {
    "red": (230, 50, 50),
    "green": (40, 190, 70),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 50),
    "white": (245, 245, 245),
}
GLYPHS = {
    "block": ("####", "####", "####", "####"),
    "bar": ("....", "####", "####", "...."),
    "post": (".##.", ".##.", ".##.", ".##."),
    "slash": ("...#", "..#.", ".#..", "#..."),
}
CELLS = ("northwest", "northeast", "southwest", "southeast")
BACKGROUND = 25  # grey of empty pixels
NOISE = 6.0  # standard deviation of what is added to every value
CELL, SIDE, SLOTS = 4, 8, 6
KINDS = tuple(product(COLOURS, GLYPHS))
HELD_OUT = {"val": 150, "test": 300}  # layouts; the other 1950 are for training


class GlyphScenes(PictureSource):
    """Pictures of the world; no layout is in two splits. A layout that recurs has other noise.

    Args:
        split: train, val or test.
        size: number of pictures; a larger split begins with the pictures of a smaller one.
        seed: which layouts are held out, and the noise.
    """

    def __init__(self, split: str, size: int, seed: int = 0):
        splits = ("train", *HELD_OUT)
        if split not in splits:
            raise unknown("split", split, splits)
        self.split, self.size = split, size
        self.key = (seed, splits.index(split))
        order = np.random.default_rng((seed, len(splits))).permutation(len(layouts()))
        val, test = HELD_OUT["val"], HELD_OUT["val"] + HELD_OUT["test"]
        self.layouts = {"val": order[:val], "test": order[val:test], "train": order[test:]}[split]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        layout = layouts()[self.layouts[index % len(self.layouts)]]
        noise = np.random.default_rng((*self.key, index)).normal(0, NOISE, (SIDE, SIDE, 3))
        image = (draw(layout) + noise).round().clip(0, 255).astype(np.uint8)
        return Picture(image, -1, caption(layout), f"{self.split}/{index}")


Layout = tuple[tuple[int, int], tuple[int, int]]  # two of (cell, kind), in the order of the cells


@cache
def layouts() -> list[Layout]:
    """All 2400 of them."""
    kinds = range(len(KINDS))
    return [((a, x), (b, y)) for a, b in combinations(range(len(CELLS)), 2) for x in kinds for y in kinds]


@cache
def cell_pictures() -> np.ndarray:
    """What a cell can hold, [21, 4, 4, 3]: nothing, then each of KINDS."""
    pictures = np.full((len(KINDS) + 1, CELL, CELL, 3), BACKGROUND, np.float64)
    for k, (colour, glyph) in enumerate(KINDS):
        pictures[k + 1, np.array([list(row) for row in GLYPHS[glyph]]) == "#"] = COLOURS[colour]
    return pictures


def draw(layout: Layout) -> np.ndarray:
    """[8, 8, 3], values from 0 to 255, without noise."""
    cells = np.zeros(len(CELLS), np.int64)
    for cell, kind in layout:
        cells[cell] = kind + 1
    return rearrange(cell_pictures()[cells], "(r c) h w d -> (r h) (c w) d", r=2)


def caption(layout: Layout) -> str:
    return " ".join(word for cell, kind in layout for word in (*KINDS[kind], CELLS[cell]))


def read_slots(images: Tensor) -> list[list[str]]:
    """The six words that describe each picture [B, 3, 8, 8] in [0, 1] best: the two glyphs nearest to what is there."""
    cells = rearrange(images.detach().cpu().double() * 255, "b d (r h) (c w) -> b (r c) 1 (h w d)", r=2, c=2)
    pictures = rearrange(torch.from_numpy(cell_pictures()), "k h w d -> k (h w d)")
    distances = (cells - pictures).pow(2).sum(-1)  # [B, 4, 21]
    best, kind = distances[..., 1:].min(-1)
    chosen = (distances[..., 0] - best).topk(2).indices.sort().values  # where a glyph explains most
    return [caption_words(places, kinds) for places, kinds in zip(chosen.tolist(), kind.tolist(), strict=True)]


def caption_words(places: list[int], kinds: list[int]) -> list[str]:
    return [word for cell in places for word in (*KINDS[kinds[cell]], CELLS[cell])]


def matching_slots(text: str, truth: str) -> float:
    """Share of the six words of a caption that stand in their places in `text`."""
    pairs = zip(text.split()[:SLOTS], truth.split(), strict=False)
    return sum(a == b for a, b in pairs) / SLOTS
