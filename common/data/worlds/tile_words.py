"""What can be said of the world of tiles: names, captions short and long, foils, prompts.

Every colour and every shape has three names. The first is the one that captions use; the others are its synonyms.
A foil is a caption that is wrong of a picture, and differs from the right one in a single respect.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

COLOURS = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald", "lime"),
    "blue": ("blue", "navy", "azure"),
    "yellow": ("yellow", "golden", "lemon"),
    "purple": ("purple", "violet", "plum"),
    "cyan": ("cyan", "turquoise", "aqua"),
    "orange": ("orange", "amber", "tangerine"),
    "white": ("white", "pale", "ivory"),
}
SHAPES = {
    "disc": ("disc", "circle", "dot"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "pyramid", "delta"),
    "cross": ("cross", "plus", "crucifix"),
    "ring": ("ring", "hoop", "loop"),
    "bar": ("bar", "rod", "stick"),
    "corner": ("corner", "elbow", "bracket"),
    "dome": ("dome", "bowl", "arch"),
}
KINDS = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))
TEXTURES = ("plain", "striped")
PLACES = ("upper left", "upper right", "lower left", "lower right")  # of the four cells
TEMPLATES = ("a {}", "there is a {}", "a picture of a {}")
FOILS = ("swap_colour", "swap_shape", "replace_colour", "replace_shape", "reshuffle")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


class Tile(NamedTuple):
    """An object of a scene: names of its colour, shape and texture, and its cell, from 0 to 3 in reading order."""

    colour: str
    shape: str
    cell: int
    texture: str = "plain"

    @property
    def kind(self) -> int:
        """Index in KINDS."""
        return KINDS.index(f"{self.colour} {self.shape}")


def vocabulary() -> list[str]:
    """All words that this module says, and those of TEMPLATES."""
    names = [name for table in (COLOURS, SHAPES) for names in table.values() for name in names]
    said = [*names, *TEXTURES, *PLACES, *OPPOSITE, *TEMPLATES, "and a in the ."]
    return sorted({word for text in said for word in text.split()} - {"{}"})


def relation(a: Tile, b: Tile) -> str:
    """Where the first lies, seen from the second; of cells across from each other only left and right count."""
    if a.cell % 2 != b.cell % 2:
        return "left of" if a.cell % 2 < b.cell % 2 else "right of"
    return "above" if a.cell < b.cell else "below"


def short_caption(tiles: list[Tile], rng: np.random.Generator, alone: float = 0.75) -> str:
    """One object alone in a share `alone` of the cases, else two of them and how they lie, either one first."""
    order = [tiles[k] for k in rng.permutation(len(tiles))]
    if len(tiles) == 1 or rng.random() < alone:
        return f"a {order[0].colour} {order[0].shape}"
    return related(order[0], order[1])


def related(a: Tile, b: Tile) -> str:
    """ "a red disc left of a blue cross"."""
    return f"a {a.colour} {a.shape} {relation(a, b)} a {b.colour} {b.shape}"


def long_caption(tiles: list[Tile], rng: np.random.Generator) -> str:
    """Texture, colour, shape and place of every object in any of their names, in any order."""
    said = []
    for k in rng.permutation(len(tiles)):
        colour, shape = COLOURS[tiles[k].colour][rng.integers(3)], SHAPES[tiles[k].shape][rng.integers(3)]
        said.append(f"a {tiles[k].texture} {colour} {shape} in the {PLACES[tiles[k].cell]}")
    return " and ".join(said)


def foils(a: Tile, b: Tile, rng: np.random.Generator) -> dict[str, str]:
    """Wrong captions of a scene of which `related(a, b)` is right, by what is wrong with them: each of FOILS.

    Args:
        a: of another colour and another shape than b.
        b: likewise.
    """
    either = bool(rng.integers(2))

    def replaced(names: dict[str, tuple[str, ...]], of: Callable[[Tile], str], field: str) -> str:
        left = [name for name in names if name not in (of(a), of(b))]
        other = {field: left[rng.integers(len(left))]}
        return related(a._replace(**other), b) if either else related(a, b._replace(**other))

    words = related(a, b).split()
    right, shuffled = words.copy(), words
    while shuffled == right:
        shuffled = [words[k] for k in rng.permutation(len(words))]
    return {
        "swap_colour": related(a._replace(colour=b.colour), b._replace(colour=a.colour)),
        "swap_shape": related(a._replace(shape=b.shape), b._replace(shape=a.shape)),
        "replace_colour": replaced(COLOURS, lambda tile: tile.colour, "colour"),
        "replace_shape": replaced(SHAPES, lambda tile: tile.shape, "shape"),
        "reshuffle": " ".join(shuffled),
    }


def misheard(text: str, share: float, rng: np.random.Generator) -> str:
    """A text in which each word of a colour or a shape is, with probability `share`, another one of its sort."""
    words = []
    for word in text.split():
        for names in (list(COLOURS), list(SHAPES)):
            if word in names and rng.random() < share:
                word = names[(names.index(word) + int(rng.integers(1, len(names)))) % len(names)]
                break
        words.append(word)
    return " ".join(words)
