"""Drawn cloth: woven fabrics for the experiment, and families of other textures that the mini scale's teacher tells.

A weave is a matrix that says which thread lies on top where warp and weft cross. Everything is drawn from a generator:
the same one gives the same picture.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from common.data.images import Picture, PictureSource

Array = np.ndarray


def _diagonal(size: int, floats: int, step: int = 1) -> Array:
    """Warp on top for `floats` of `size` crossings, moved on by `step` from row to row."""
    rows, columns = np.mgrid[:size, :size]
    return (columns - step * rows) % size < floats


WEAVES: dict[str, tuple[Array, float, tuple[int, int, int], tuple[int, int, int]]] = {
    "twill": (_diagonal(4, 2), 5.0, (70, 92, 140), (140, 152, 180)),
    "basket": (np.kron(_diagonal(2, 1), np.ones((2, 2), bool)), 4.5, (172, 150, 118), (120, 98, 70)),
    "satin": (_diagonal(5, 1, 2), 5.5, (96, 40, 52), (150, 84, 92)),
    "plain": (_diagonal(2, 1), 6.0, (104, 120, 96), (150, 160, 128)),
    "herringbone": (np.concatenate([_diagonal(4, 2), _diagonal(4, 2, -1)], 1), 5.0, (62, 62, 66), (130, 128, 124)),
}
"""Of each fabric: its matrix, the threads' distance in pixels, and the colours of warp and weft."""
FABRICS = tuple(WEAVES)


def fabric(name: str, rng: np.random.Generator, side: int = 128) -> Array:
    """A piece of a fabric without a fault: uint8 RGB [side, side, 3].

    Pieces differ in where they are cut, in direction and distance of the threads by some percent, in the threads'
    brightness and place, in light and in noise.
    """
    matrix, pitch, warp, weft = WEAVES[name]
    y, x = np.mgrid[:side, :side].astype(np.float64)
    angle, pitch = rng.normal(0, 0.02), pitch * rng.uniform(0.97, 1.03)
    u, v = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    across, down = (_threads(place, pitch, rng) for place in (u, v))
    on_top = matrix[down[0] % matrix.shape[0], across[0] % matrix.shape[1]]
    shade = np.where(on_top, across[1] * (0.8 + 0.2 * down[1]), down[1] * (0.8 + 0.2 * across[1]))
    colour = np.where(on_top[..., None], np.array(warp), np.array(weft)) * shade[..., None]
    slope = rng.normal(0, 0.04, 2)
    light = 1 + slope[0] * (x / side - 0.5) + slope[1] * (y / side - 0.5) + rng.normal(0, 0.02)
    grain = gaussian_filter(rng.normal(0, 1, (side, side)), 0.7) * 6
    return _pixels(colour * light[..., None] + grain[..., None])


def _threads(place: Array, pitch: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Number of the thread at each place, and its brightness there: round, and from thread to thread a little other."""
    shifted = place / pitch + rng.uniform(1000, 2000)
    count = shifted.astype(int)
    first = count.min()
    wobble = rng.normal(0, 0.04, count.max() - first + 2)
    bright = rng.normal(1, 0.03, len(wobble))
    inside = shifted - count - 0.5 + wobble[count - first]
    return count, bright[count - first] * (0.55 + 0.45 * np.cos(np.pi * np.clip(inside, -0.5, 0.5)))


def _pixels(values: Array) -> Array:
    return (values.clip(0, 255) + 0.5).astype(np.uint8)


def _zigzag(u: Array, v: Array) -> Array:
    return np.cos(2 * np.pi * (u + np.abs(v % 2 - 1)))


PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "stripes": lambda u, v: np.cos(2 * np.pi * u),
    "checks": lambda u, v: np.cos(np.pi * u) * np.cos(np.pi * v),
    "dots": lambda u, v: 1.6 - 5 * np.hypot(u % 1 - 0.5, v % 1 - 0.5),
    "rings": lambda u, v: np.cos(12 * np.hypot(u % 1 - 0.5, v % 1 - 0.5)),
    "bricks": lambda u, v: np.minimum((v % 1) * 6, ((u / 2 + np.floor(v) / 2) % 1) * 12) - 1.5,
    "diamonds": lambda u, v: 1 - 4 * (np.abs(u % 1 - 0.5) + np.abs(v % 1 - 0.5) - 0.25),
    "zigzag": _zigzag,
    "waves": lambda u, v: np.cos(2 * np.pi * (u + 0.3 * np.sin(2 * np.pi * v / 2))),
}
FINISHES = ("smooth", "hard", "grainy")
FAMILIES = tuple(f"{finish} {pattern}" for pattern in PATTERNS for finish in FINISHES)


class TextureFamilies(PictureSource):
    """Textures of 24 families, none of which is woven, in any colours, size and direction.

    Args:
        split: train, val or test: other pictures each.
        size: their number.
        resolution: side of the square pictures, pixels.
    """

    classes = FAMILIES

    def __init__(self, split: str, size: int, resolution: int = 128):
        self.key, self.size, self.resolution = ("train", "val", "test").index(split), size, resolution

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        rng = np.random.default_rng((3, self.key, index))
        label = index % len(FAMILIES)
        return Picture(texture(FAMILIES[label], rng, self.resolution), label, FAMILIES[label], str(index))


def texture(family: str, rng: np.random.Generator, side: int = 128) -> Array:
    """A picture of a family: uint8 RGB [side, side, 3]."""
    finish, pattern = family.split()
    y, x = np.mgrid[:side, :side].astype(np.float64)
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(5, 20)
    u = (x * np.cos(angle) - y * np.sin(angle)) / period + rng.uniform(0, 10)
    v = (x * np.sin(angle) + y * np.cos(angle)) / period * rng.uniform(0.8, 1.25) + rng.uniform(0, 10)
    if finish == "grainy":
        bend = gaussian_filter(rng.normal(0, 1, (2, side, side)), (0, 4, 4)) * 1.5
        u, v = u + bend[0], v + bend[1]
    value = PATTERNS[pattern](u, v)
    value = np.tanh(8 * value) if finish == "hard" else value.clip(-1, 1)
    if finish == "grainy":
        value = value + gaussian_filter(rng.normal(0, 1, (side, side)), 0.6) * 0.9
    low, high = rng.uniform(20, 235, 3), rng.uniform(20, 235, 3)
    colour = low + (high - low) * (value[..., None] + 1) / 2
    return _pixels(colour + rng.normal(0, 3, (side, side, 1)))
