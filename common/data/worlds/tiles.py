"""The world of tiles: scenes of a few coloured shapes in a grid of two by two, from which a small CLIP learns.

    source = TileScenes("train", 6000)
    source[0].caption      "a red disc left of a blue cross"
    source.scene(0).masks  what each object covers

A shape is turned and moved a little, plain or striped, over a noisy background. The objects of a scene differ in colour
and in shape, so that exchanging either makes a caption wrong. In the domain "shifted" the same scenes lie on a brighter
background, their colours turn, and the picture is blurred: a CLIP of the plain one tells 0.73 of the 64 kinds there,
and 0.95 at home.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
from einops import reduce

from common.data.images import Picture, PictureSource
from common.data.plain_texts import PlainTexts
from common.data.text import Split
from common.data.worlds.tile_words import COLOURS, KINDS, SHAPES, TEXTURES, Tile, long_caption, misheard, short_caption
from common.errors import UserError, unknown

RGB = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 235),
    "yellow": (235, 220, 50),
    "purple": (150, 50, 190),
    "cyan": (60, 205, 215),
    "orange": (240, 140, 35),
    "white": (240, 240, 240),
}
SPLITS = ("train", "val", "test")
GROUND = {"plain": 35, "shifted": 60}  # grey of the background
TURN = np.array([[0.85, 0.15, 0.0], [0.0, 0.85, 0.15], [0.15, 0.0, 0.85]])  # of the colours, in the shifted domain
BLUR = 0.5  # there: weight of the mean over 3 x 3 pixels
DARK = 0.45  # brightness of a stripe
FINE = 4  # samples to a side of a pixel
TILT, SHIFT, SCALE = 0.3, 0.12, (0.8, 1.0)  # radians; of half a cell; of the largest size
TRIES = 1000

Domain = Literal["plain", "shifted"]
Words = Literal["short", "long", "kind"]


@dataclass
class TileScene:
    """A scene.

    Attributes:
        image: uint8 RGB [S, S, 3].
        masks: what each object covers, bool [N, S, S].
        tiles: the objects.
    """

    image: np.ndarray
    masks: np.ndarray
    tiles: list[Tile]

    @property
    def boxes(self) -> np.ndarray:
        """The masks' boxes, [N, 4]: left, top, right, bottom in pixels, the last two not inside."""
        boxes = []
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return np.array(boxes, np.int64)


class TileScenes(PictureSource):
    """Scenes of the world. The label is the kind of the first object, an index in `classes`.

    Args:
        split: train, val or test.
        size: number of scenes; a larger split begins with the scenes of a smaller one.
        seed: which world.
        cell: side of a cell in pixels; the picture has twice of it.
        objects: fewest and most objects of a scene, from 1 to 4.
        shapes: those that occur; None for all.
        colours: likewise.
        kinds: only these, as "red disc", instead of all pairs of colours and shapes. `classes` are these.
        domain: plain or shifted.
        words: what the caption is: short, which may leave out an object; long, with all there is to say; or the kind
            of the first object, "a red disc".
        alone: share of the short captions of several objects that name only one.
        wrong: share of the colours and shapes in a training caption that are others.
        noise: standard deviation of what is added to every value (of 255).
    """

    def __init__(
        self,
        split: str,
        size: int,
        seed: int = 0,
        cell: int = 8,
        objects: tuple[int, int] = (1, 2),
        shapes: list[str] | None = None,
        colours: list[str] | None = None,
        kinds: list[str] | None = None,
        domain: Domain = "plain",
        words: Words = "short",
        alone: float = 0.75,
        wrong: float = 0.0,
        noise: float = 12.0,
    ):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if domain not in GROUND:
            raise unknown("domain", domain, GROUND)
        if not 1 <= objects[0] <= objects[1] <= 4:
            raise UserError(f"objects are the fewest and the most of a scene, from 1 to 4, not {objects}")
        if not 0 <= wrong <= 1:
            raise UserError(f"wrong is a share of the words, from 0 to 1, not {wrong}")
        chosen = kinds or [f"{c} {s}" for c, s in product(colours or COLOURS, shapes or SHAPES)]
        for kind in chosen:
            if kind not in KINDS:
                raise unknown("kind of tile", kind, KINDS)
        if len({k.split()[0] for k in chosen}) < objects[1] or len({k.split()[1] for k in chosen}) < objects[1]:
            raise UserError(
                f"a scene of {objects[1]} objects wants as many colours and as many shapes: give more of them"
            )
        self.classes = tuple(chosen)
        self.size, self.cell, self.objects, self.domain, self.words = size, cell, objects, domain, words
        self.alone, self.wrong, self.noise = alone, wrong if split == "train" else 0.0, noise
        self.key = (seed, SPLITS.index(split))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        scene = self.scene(index)
        first = f"{scene.tiles[0].colour} {scene.tiles[0].shape}"
        return Picture(scene.image, self.classes.index(first), self.caption(index), f"{self.key[1]}/{index}")

    def caption(self, index: int) -> str:
        """What is said of a scene, without drawing it."""
        tiles, rng = self.tiles(index), np.random.default_rng((*self.key, index, 1))
        if self.words == "long":
            return long_caption(tiles, rng)
        said = f"a {tiles[0].colour} {tiles[0].shape}"
        if self.words == "short":
            said = short_caption(tiles, rng, self.alone)
        return misheard(said, self.wrong, rng) if self.wrong else said

    def tiles(self, index: int) -> list[Tile]:
        """The objects of a scene."""
        rng = np.random.default_rng((*self.key, index))
        count = int(rng.integers(self.objects[0], self.objects[1] + 1))
        cells = rng.permutation(4)[:count]
        for _ in range(TRIES):
            names = [self.classes[rng.integers(len(self.classes))].split() for _ in range(count)]
            if len({name[0] for name in names}) == len({name[1] for name in names}) == count:
                textures = [TEXTURES[rng.integers(2)] for _ in range(count)]
                return [Tile(n[0], n[1], int(c), t) for n, c, t in zip(names, cells, textures, strict=True)]
        raise UserError(f"no {count} of the kinds {', '.join(self.classes)} differ in colour and in shape: give others")

    def scene(self, index: int) -> TileScene:
        """A scene with its masks."""
        rng, tiles = np.random.default_rng((*self.key, index, 2)), self.tiles(index)
        side = 2 * self.cell
        image = np.full((side, side, 3), float(GROUND[self.domain]))
        masks = np.zeros((len(tiles), side, side), bool)
        for tile, mask in zip(tiles, masks, strict=True):
            row, column = (self.cell * part for part in divmod(tile.cell, 2))
            place = (slice(row, row + self.cell), slice(column, column + self.cell))
            cover = covered(tile.shape, self.cell, rng)
            colour = np.array(RGB[tile.colour], float)
            if self.domain == "shifted":
                colour = TURN @ colour
            shade = np.ones(self.cell)
            if tile.texture == "striped":
                shade[int(rng.integers(2)) :: 2] = DARK
            image[place] = image[place] * (1 - cover[..., None]) + cover[..., None] * shade[:, None, None] * colour
            mask[place] = cover >= 0.5
        if self.domain == "shifted":
            around = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
            mean = sum(around[y : y + side, x : x + side] for y in range(3) for x in range(3)) / 9
            image = (1 - BLUR) * image + BLUR * mean
        image = image + rng.normal(0, self.noise, image.shape)
        return TileScene(image.round().clip(0, 255).astype(np.uint8), masks, tiles)


class TileTexts(PlainTexts):
    """What is said of scenes, for language models; the training scenes are those that TileScenes draws.

    Args:
        size: number of texts of a split.
        scenes: settings of TileScenes, as its words.
    """

    def __init__(self, size: int, scenes: dict[str, Any] | None = None):
        self.size, self.scenes = size, scenes or {}

    def read(self, split: Split) -> list[str]:
        source = TileScenes(split, self.size, **self.scenes)
        return [source.caption(index) for index in range(self.size)]


@cache
def grid(cell: int) -> np.ndarray:
    """Middles of the fine samples of a cell, [2, cell * FINE, cell * FINE]: x and y from -1 to 1."""
    middles = (np.arange(cell * FINE) + 0.5) / (cell * FINE) * 2 - 1
    return np.stack(np.meshgrid(middles, middles))


def covered(shape: str, cell: int, rng: np.random.Generator) -> np.ndarray:
    """How much of each pixel of a cell a shape covers, turned, moved and scaled by chance: [cell, cell] in [0, 1]."""
    angle, scale = rng.uniform(-TILT, TILT), rng.uniform(*SCALE)
    x, y = grid(cell) - rng.uniform(-SHIFT, SHIFT, 2)[:, None, None]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inside = INSIDE[shape](u / (0.88 * scale), v / (0.88 * scale))
    return reduce(inside.astype(np.float64), "(h a) (w b) -> h w", "mean", a=FINE, b=FINE)


INSIDE = {  # of points u, v: which lie within the shape of size 1
    "disc": lambda u, v: u**2 + v**2 < 0.8,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.75,
    "triangle": lambda u, v: (v < 0.8) & (v > 2 * abs(u) - 0.9),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 0.95),
    "ring": lambda u, v: (u**2 + v**2 < 0.95) & (u**2 + v**2 > 0.3),
    "bar": lambda u, v: (abs(u) < 0.95) & (abs(v) < 0.33),
    "corner": lambda u, v: (np.maximum(abs(u), abs(v)) < 0.85) & ((u < -0.3) | (v > 0.3)),
    "dome": lambda u, v: (u**2 + (v - 0.5) ** 2 < 1.0) & (v < 0.5),
}
