"""The world of glyphs: captioned pictures of 8 x 8 pixels, small enough to train a diffusion model on in minutes.

A picture has four cells; in two of them stands a glyph of one colour. Its caption names colour, glyph and cell of both,
in the order of the cells: "red block northwest blue slash southeast". `read_slots` reads a picture back.

Captions may leave the places open, "red block blue slash": then a caption has six pictures, or twelve, and a model that
draws must choose. And a share of the training captions may name an object that is not there. A model that learned from
those draws wrong objects as often, which guidance mends. `objects_right` marks such pictures.
"""

from collections import Counter
from functools import cache
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from common.data.images import Picture, PictureSource
from common.errors import UserError, unknown

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
HELD_OUT_PAIRS = {
    "val": 13,
    "test": 26,
}  # pairs of objects where captions name no places; the other 171 are for training


class GlyphScenes(PictureSource):
    """Pictures of the world; no caption is in two splits. A layout that recurs has other noise.

    Args:
        split: train, val or test.
        size: number of pictures; a larger split begins with the pictures of a smaller one.
        seed: which layouts are held out, and the noise.
        places_named: whether captions say in which cells the objects stand; if not, pairs of objects are held out.
        caption_noise: share of the training captions in which one of the objects is another one; those of the other
            splits are right.
    """

    def __init__(self, split: str, size: int, seed: int = 0, places_named: bool = True, caption_noise: float = 0.0):
        splits = ("train", *HELD_OUT)
        if split not in splits:
            raise unknown("split", split, splits)
        if not 0 <= caption_noise <= 1:
            raise UserError(f"caption_noise is a share of the captions, from 0 to 1, not {caption_noise}")
        self.split, self.size, self.places_named = split, size, places_named
        self.caption_noise = caption_noise if split == "train" else 0.0
        self.key = (seed, splits.index(split))
        rng = np.random.default_rng((seed, len(splits)))
        if places_named:
            order = rng.permutation(len(layouts()))
            val, test = HELD_OUT["val"], HELD_OUT["val"] + HELD_OUT["test"]
            self.layouts = {"val": order[:val], "test": order[val:test], "train": order[test:]}[split]
        else:
            pairs = rng.permutation(list(combinations_with_replacement(range(len(KINDS)), 2)))
            val, test = HELD_OUT_PAIRS["val"], HELD_OUT_PAIRS["val"] + HELD_OUT_PAIRS["test"]
            chosen = {"val": pairs[:val], "test": pairs[val:test], "train": pairs[test:]}[split]
            self.pairs = {(int(a), int(b)) for a, b in chosen}
            order = rng.permutation(len(layouts()))
            self.layouts = np.array([k for k in order if pair(layouts()[k]) in self.pairs])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        layout = layouts()[self.layouts[index % len(self.layouts)]]
        noise = np.random.default_rng((*self.key, index)).normal(0, NOISE, (SIDE, SIDE, 3))
        image = (draw(layout) + noise).round().clip(0, 255).astype(np.uint8)
        return Picture(image, -1, self.said(layout, index), f"{self.split}/{index}")

    def said(self, layout: "Layout", index: int) -> str:
        """The caption of a picture, or one with another object in the place of one of its own."""
        rng = np.random.default_rng((*self.key, index, 1))
        if self.caption_noise == 0 or rng.random() >= self.caption_noise:
            return caption(layout, self.places_named)
        wrong: list[Layout] = []
        for which, kind in product(range(2), range(len(KINDS))):
            changed = [*layout]
            changed[which] = (layout[which][0], kind)
            other = (changed[0], changed[1])
            # no caption of another split is said even by mistake
            if other != layout and (self.places_named or pair(other) in self.pairs):
                wrong.append(other)
        return caption(wrong[rng.integers(len(wrong))], self.places_named)


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


def caption(layout: Layout, places: bool = True) -> str:
    named = ((*KINDS[kind], CELLS[cell]) if places else KINDS[kind] for cell, kind in layout)
    return " ".join(word for words in named for word in words)


def pair(layout: Layout) -> tuple[int, int]:
    """The two kinds of object, the smaller number first."""
    (_, a), (_, b) = layout
    return min(a, b), max(a, b)


def cell_distances(images: Tensor) -> Tensor:
    """Pictures [B, 3, 8, 8] in [0, 1] -> mean squared distance of each cell to all that it can hold, [B, 4, 21].

    In units of the full range of a value.
    """
    cells = rearrange(images, "b d (r h) (c w) -> b (r c) 1 (h w d)", r=2, c=2)
    pictures = rearrange(torch.from_numpy(cell_pictures()).to(cells) / 255, "k h w d -> k (h w d)")
    return (cells - pictures).pow(2).mean(-1)


def objects_right(images: Tensor, captions: list[str]) -> Tensor:
    """Share of the two named objects that a picture [B, 3, 8, 8] in [0, 1] shows, wherever they stand: [B].

    A cell shows what its pixels are nearest to, which may be nothing. Of three objects that stand there one cannot be
    right, so that the two named ones and another make 2/3.
    """
    nearest = cell_distances(images.detach().cpu().double()).argmin(-1)  # [B, 4], 0 for nothing
    marks = []
    for cells, text in zip(nearest.tolist(), captions, strict=True):
        shown = Counter(KINDS[k - 1] for k in cells if k)
        named = Counter(named_objects(text))
        marks.append((shown & named).total() / max(named.total(), shown.total()))
    return torch.tensor(marks)


def named_objects(text: str) -> list[tuple[str, str]]:
    """Colour and glyph of the objects that a caption names, with or without places."""
    words = [word for word in text.split() if word not in CELLS]
    return list(zip(words[::2], words[1::2], strict=True))


class GlyphFeatures(nn.Module):
    """What a picture shows, for Frechet distances: how near any of its cells comes to each of the 20 objects.

    Pictures [B, 3, 8, 8] in [0, 1] -> root mean square distances [B, 20]. Blur, wrong colours and objects that are not
    named all move them; where an object stands does not.
    """

    num_features = len(KINDS)

    def forward(self, images: Tensor) -> Tensor:
        return cell_distances(images)[..., 1:].amin(1).sqrt()


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
