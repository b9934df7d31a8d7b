"""Faults painted onto pictures of any cloth, with their masks: the mini scale's defects, and validation at any scale.

Held-out pictures without a fault and copies of them with a painted one say how well faults are found, where no real
ones may be looked at.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

Array = np.ndarray
Fault = Callable[[Array, np.random.Generator], tuple[Array, Array]]
"""From a picture, float [H, W, 3], to the changed picture and how strongly it is changed where, [H, W] in [0, 1]."""
LEAST = 0.3
"""Of a fault's full strength: what counts as part of it in the mask."""


def _spot(shape: tuple[int, ...], rng: np.random.Generator, low: float, high: float, soft: float) -> Array:
    """A turned ellipse, its half axes a share of the side from low to high: 1 inside, falling to 0 over `soft`."""
    side = min(shape[:2])
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    cy, cx = (rng.uniform(0.12, 0.88) * n for n in shape[:2])
    a, b, angle = rng.uniform(low, high) * side, rng.uniform(low, high) * side, rng.uniform(0, np.pi)
    u, v = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle), (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    return (1 - (np.hypot(u / a, v / b) - 1) / soft).clip(0, 1)


def _line(shape: tuple[int, ...], rng: np.random.Generator, width: float) -> Array:
    """A piece of a thread, along rows or columns, a few pixels wide: 1 on it, falling to 0 over a pixel."""
    upright = rng.random() < 0.5
    along, across = shape[:2] if upright else shape[1::-1]
    length = rng.uniform(0.35, 0.8) * along
    start, place = rng.uniform(0, along - length), rng.uniform(0.1, 0.9) * across
    t, s = np.mgrid[:along, :across].astype(float)
    value = (1.5 - np.abs(s - place) / width).clip(0, 1) * ((t >= start) & (t <= start + length))
    return value if upright else value.T


def hole(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """What lies below shows through."""
    where = _spot(image.shape, rng, 0.03, 0.07, 0.4)
    return _blend(image, np.full(3, rng.choice([15.0, 235.0])), where), where


def stain(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Oil or dye: the weave shows, darker or lighter."""
    where = _spot(image.shape, rng, 0.07, 0.14, 0.6)
    return image * (1 + rng.choice([-1, 1]) * rng.uniform(0.3, 0.5) * where[..., None]), where


def missing_yarn(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A thread is missing: a blurred, darker line."""
    where = _line(image.shape, rng, 2.2)
    return _blend(image, gaussian_filter(image, (3, 3, 0)) * rng.uniform(0.7, 0.85), where), where


def thick_yarn(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A thread too many, or another colour's."""
    where = _line(image.shape, rng, 2.2)
    return _blend(image, image.mean((0, 1)) * rng.choice([0.55, 1.5]), where), where


def misweave(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Threads lie the other way: a spot of the picture that is turned by a right angle."""
    where = _spot(image.shape, rng, 0.07, 0.14, 0.2)
    side = min(image.shape[:2])
    turned = np.rot90(image[:side, :side])
    rest = [(0, n - side) for n in image.shape[:2]]
    return _blend(image, np.pad(turned, [*rest, (0, 0)], "wrap"), where), where


def pulled(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Threads are drawn together around a place."""
    where = _spot(image.shape, rng, 0.07, 0.14, 0.6)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    weight = where.sum()
    cy, cx = (y * where).sum() / weight, (x * where).sum() / weight
    at = [cy + (y - cy) * (1 + 0.6 * where), cx + (x - cx) * (1 + 0.6 * where)]
    moved = np.stack([map_coordinates(image[..., c], at, order=1, mode="reflect") for c in range(3)], -1)
    return moved, where


FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (hole, stain, missing_yarn, thick_yarn, misweave, pulled)
}


def spoil(image: Array, fault: str, rng: np.random.Generator, strength: float = 1.0) -> tuple[Array, Array]:
    """A picture with a fault, and where it is.

    Args:
        image: uint8 RGB [H, W, 3].
        fault: a name of FAULTS.
        strength: 1 shows it in full, less mixes in what was there before.

    Returns:
        uint8 RGB [H, W, 3] and bool [H, W], never empty.
    """
    before = image.astype(np.float64)
    after, where = FAULTS[fault](before, rng)
    mixed = before + strength * (after - before)
    return (mixed.clip(0, 255) + 0.5).astype(np.uint8), where >= min(LEAST, where.max())


def _blend(image: Array, other: Array, where: Array) -> Array:
    return image + where[..., None] * (other - image)
