"""What a scene of the world of shapes contains, before it is drawn: objects, attributes, places, depths.

Lengths and places are fractions of the image's side, x to the right and y downwards, so that a layout can be drawn at
any resolution. Whether an object is hidden is decided on a fixed grid, which makes objects independent of it too.
"""

import itertools
from dataclasses import dataclass

import numpy as np

CLASSES = ("disc", "ellipse", "square", "rectangle", "triangle", "star", "cross", "ring", "semicircle", "crescent")
COLOURS = {  # RGB in [0, 1]
    "red": (0.84, 0.12, 0.12),
    "orange": (0.96, 0.54, 0.08),
    "yellow": (0.95, 0.86, 0.15),
    "green": (0.15, 0.60, 0.20),
    "cyan": (0.18, 0.78, 0.82),
    "blue": (0.13, 0.27, 0.85),
    "purple": (0.50, 0.18, 0.66),
    "pink": (0.96, 0.52, 0.74),
    "brown": (0.45, 0.27, 0.12),
    "grey": (0.52, 0.52, 0.52),
    "white": (0.96, 0.96, 0.96),
    "black": (0.07, 0.07, 0.07),
}
SIZES = {"small": (0.080, 0.100), "medium": (0.118, 0.145), "large": (0.172, 0.230)}  # radius of a disc of equal area
TEXTURES = ("plain", "striped", "dotted", "checked", "speckled")
BACKGROUNDS = ("plain", "shaded", "cloudy", "striped", "split")

GRID = 64  # side of the grid that decides what is hidden
MIN_OBJECTS, MAX_OBJECTS = 2, 6
MIN_AREA = 0.012  # an object shows at least this fraction of the image
MIN_SHOWN = 0.5  # and at least this fraction of its own area
PROPOSALS = 30  # objects tried for one scene; more only until there are two
PLAIN = 0.15  # share of objects that are plain before a texture is drawn from all five
DEPTHS = (0.1, 0.8)  # of objects; the background reaches from 0.85 (bottom) to 1 (top)

_RGB = np.array(list(COLOURS.values()), np.float32)
_RING = 0.55  # inner radius
_STAR = 0.45  # inner radius
_ARM = 0.36  # width of a cross's arm over its length
_FLAT = 0.35  # distance of a semicircle's straight edge from its origin, over its radius
_SHARE_NEAR, _SHARE_FAR = np.array([0.15, 0.40, 0.45]), np.array([0.50, 0.35, 0.15])  # of small, medium, large


@dataclass(frozen=True)
class Shape:
    """One object.

    Attributes:
        kind, colour, size, texture: names of the constants above.
        x, y: origin, fraction of the image's side.
        radius: of the circle around the origin that encloses the shape.
        angle: rotation, radians.
        ratio: short over long axis, for ellipses and rectangles.
        rgb: colour with its jitter; `second`: the texture's other colour; `core`: colour of the inner part, if any.
        pitch: period of the texture. phase: its shift, in periods.
        light: change of brightness along the shape's own axes and towards its rim, over the radius.
        depth: at the origin; smaller is nearer. slope: its change along x and y, over the radius.
    """

    kind: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    angle: float
    ratio: float
    rgb: np.ndarray
    second: np.ndarray
    core: np.ndarray | None
    pitch: float
    phase: tuple[float, float]
    light: tuple[float, float, float]
    depth: float
    slope: tuple[float, float]


@dataclass(frozen=True)
class Background:
    """What lies behind all objects: two colours, mixed by a pattern.

    Attributes:
        kind: one of BACKGROUNDS.
        rgb, second: the colours, float32 [3].
        angle: direction of the pattern, radians. pitch: its period or its bend. shift: where it begins.
        grid: random values that "cloudy" interpolates, [5, 5].
    """

    kind: str
    rgb: np.ndarray
    second: np.ndarray
    angle: float
    pitch: float
    shift: float
    grid: np.ndarray


@dataclass(frozen=True)
class Layout:
    """A scene before it is drawn.

    Attributes:
        objects: nearest first.
        background: what lies behind them.
        brightness: factor on all colours. noise: standard deviation of the sensor's noise, of colours in [0, 1].
    """

    objects: tuple[Shape, ...]
    background: Background
    brightness: float
    noise: float


def signed_distance(kind: str, x: np.ndarray, y: np.ndarray, ratio: float) -> np.ndarray:
    """Distance to the outline of a shape inside the unit circle, negative within; off the outline a bound at best."""
    match kind:
        case "disc":
            return np.hypot(x, y) - 1
        case "ellipse":
            return (np.hypot(x, y / ratio) - 1) * ratio
        case "square":
            return np.maximum(abs(x), abs(y)) - 0.5**0.5
        case "rectangle":
            side = 1 / np.hypot(1, ratio).item()
            return np.maximum(abs(x) - side, abs(y) - ratio * side)
        case "triangle":
            return np.maximum(y, 0.75**0.5 * abs(x) - 0.5 * y) - 0.5
        case "star":  # the angle folded onto half a tip, where the outline is one line
            tenth = np.pi / 5
            angle = abs((np.arctan2(x, y) + tenth) % (2 * tenth) - tenth)
            across, along = _STAR * np.sin(tenth).item(), 1 - _STAR * np.cos(tenth).item()
            edge = np.hypot(across, along).item()
            reach = np.hypot(x, y)
            return ((reach * np.cos(angle) - 1) * across + reach * np.sin(angle) * along) / edge
        case "cross":
            x, y, side = abs(x), abs(y), 1 / np.hypot(1, _ARM).item()
            return np.maximum(np.maximum(x, y) - side, np.minimum(x, y) - _ARM * side)
        case "ring":
            return abs(np.hypot(x, y) - (1 + _RING) / 2) - (1 - _RING) / 2
        case "semicircle":
            side = 1 / np.hypot(1, _FLAT).item()
            lower = y + _FLAT * side
            return np.maximum(np.hypot(x, lower) - side, -lower)
        case _:  # crescent
            return np.maximum(np.hypot(x, y) - 1, 0.85 - np.hypot(x - 0.5, y))


def area(kind: str, ratio: float) -> float:
    """Area of a shape inside the unit circle."""
    match kind:
        case "ellipse":
            return np.pi * ratio
        case "rectangle":
            return 4 * ratio / (1 + ratio**2)
        case "star":
            return 5 * _STAR * np.sin(np.pi / 5).item()
        case "cross":
            return 4 * _ARM * (2 - _ARM) / (1 + _ARM**2)
        case "ring":
            return np.pi * (1 - _RING**2)
        case "semicircle":
            return np.pi / 2 / (1 + _FLAT**2)
        case _:
            return {"disc": np.pi, "square": 2.0, "triangle": 0.75 * 3**0.5, "crescent": 1.393}[kind]


def local_frame(shape: Shape, side: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The window of a `side` x `side` image that holds a shape, and its pixels' places in the shape's own frame.

    Returns:
        (rows, columns), x [h, w], y [h, w]: rotated with the shape and over its radius, float32.
    """
    slices, offsets = [], []
    for origin in (shape.y, shape.x):
        first = max(int((origin - shape.radius) * side) - 1, 0)
        last = min(int((origin + shape.radius) * side) + 2, side)
        slices.append(slice(first, last))
        offsets.append(((np.arange(first, last, dtype=np.float32) + 0.5) / side - origin) / shape.radius)
    down, right = offsets[0][:, None], offsets[1][None]
    cos, sin = float(np.cos(shape.angle)), float(np.sin(shape.angle))
    return (slices[0], slices[1]), cos * right + sin * down, cos * down - sin * right


def footprint(shape: Shape, side: int) -> np.ndarray:
    """Pixels that a shape covers, whatever lies in front of it: bool [side, side]."""
    covered = np.zeros((side, side), bool)
    window, x, y = local_frame(shape, side)
    covered[window] = signed_distance(shape.kind, x, y, shape.ratio) < 0
    return covered


def draw_layout(rng: np.random.Generator, max_objects: int = MAX_OBJECTS, plain: bool = False) -> Layout:
    """A random scene of 2 (or `max_objects`, if that is 1) to `max_objects` objects, none of them (almost) hidden.

    Objects are proposed from the nearest to the farthest, and kept if enough of them shows beside the nearer ones.

    Args:
        plain: objects without texture, on plain or shaded backgrounds.
    """
    fewest = min(MIN_OBJECTS, max_objects)
    background = _background(rng, BACKGROUNDS[:2] if plain else BACKGROUNDS)
    clear = np.minimum(*(np.linalg.norm(_RGB - rgb, axis=1) for rgb in (background.rgb, background.second))) > 0.3
    count = int(rng.integers(fewest, max_objects + 1))
    near, far = DEPTHS
    gap = (far - near) / count
    depths = near + gap * (np.arange(count) + rng.uniform(0.2, 0.6, count))

    objects: list[Shape] = []
    taken = np.zeros((GRID, GRID), bool)
    for proposal in itertools.count():
        if len(objects) == count or (proposal >= PROPOSALS and len(objects) >= fewest):
            break
        shape = _shape(objects, clear, float(depths[len(objects)]), gap, 1.0 if plain else PLAIN, rng)
        covered = footprint(shape, GRID)
        shown = np.count_nonzero(covered & ~taken) / GRID**2
        if shown >= max(MIN_AREA, MIN_SHOWN * area(shape.kind, shape.ratio) * shape.radius**2):
            objects.append(shape)
            taken |= covered
    return Layout(tuple(objects), background, rng.uniform(0.85, 1.1), rng.uniform(0, 0.035))


def _background(rng: np.random.Generator, kinds: tuple[str, ...]) -> Background:
    vivid = rng.uniform(0.08, 0.95, (2, 3)).astype(np.float32)
    rgb = vivid.mean(1, keepdims=True) + rng.uniform(0.2, 0.8) * (vivid - vivid.mean(1, keepdims=True))
    kind = kinds[rng.integers(len(kinds))]
    angle, pitch, shift = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.3), rng.random()
    grid = rng.random((5, 5), np.float32)
    second = rgb[0] if kind == "plain" else rgb[1]
    return Background(kind, rgb[0], second, angle, pitch, shift, grid)


def _shape(
    others: list[Shape], clear: np.ndarray, depth: float, gap: float, plain: float, rng: np.random.Generator
) -> Shape:
    """One proposal at a given depth, plain with a probability of at least `plain`.

    `clear` tells which colours stand out from the background, bool [colours].
    """
    kind = CLASSES[rng.integers(len(CLASSES))]
    ratio = rng.uniform(0.4, 0.62)
    far = (depth - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])  # nearer objects tend to be larger, as in photographs
    share = (1 - far) * _SHARE_NEAR + far * _SHARE_FAR
    size = list(SIZES)[int(np.searchsorted(np.cumsum(share)[:-1], rng.random()))]
    radius = rng.uniform(*SIZES[size]) * float(np.sqrt(np.pi / area(kind, ratio)))

    margin = min(0.75 * radius, 0.5)
    place = rng.uniform(margin, 1 - margin, 2)
    if others and rng.random() < 0.5:  # beside another one, so that they overlap
        other = others[rng.integers(len(others))]
        direction, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.9) * (radius + other.radius)
        place = np.array([other.x + reach * np.cos(direction), other.y + reach * np.sin(direction)])
        place = place.clip(margin, 1 - margin)

    names = list(COLOURS)
    fresh = clear & ~np.isin(names, [other.colour for other in others])
    choices = np.flatnonzero(fresh if fresh.any() and rng.random() < 0.6 else clear)
    chosen = int(choices[rng.integers(len(choices))])
    rgb = (_RGB[chosen] + rng.normal(0, 0.03, 3).astype(np.float32)).clip(0, 1)
    texture = "plain" if rng.random() < plain else TEXTURES[rng.integers(len(TEXTURES))]
    other_rgb = _RGB[(chosen + rng.integers(1, len(_RGB))) % len(_RGB)]
    two_coloured = texture in ("striped", "dotted") and rng.random() < 0.4
    tone = rgb + rng.uniform(0.45, 0.65) * (np.float32(rgb.mean() < 0.5) - rgb)  # towards white or towards black
    cored = kind not in ("ring", "crescent") and rng.random() < 0.2

    return Shape(
        kind=kind,
        colour=names[chosen],
        size=size,
        texture=texture,
        x=float(place[0]),
        y=float(place[1]),
        radius=radius,
        angle=rng.uniform(0, 2 * np.pi),
        ratio=ratio,
        rgb=rgb,
        second=other_rgb if two_coloured else tone.astype(np.float32),
        core=other_rgb if cored else None,
        pitch=max(rng.uniform(0.35, 0.6) * radius, 0.05),
        phase=(rng.random(), rng.random()),
        light=(rng.uniform(-0.18, 0.18), rng.uniform(-0.18, 0.18), max(0.0, rng.uniform(-0.3, 0.3))),
        depth=depth,
        slope=(rng.uniform(-0.07, 0.07) * gap, rng.uniform(-0.07, 0.07) * gap),
    )
