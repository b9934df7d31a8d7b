"""Layouts of the world of shapes as pictures: backgrounds, textures, shading, haze, noise."""

import numpy as np
from einops import rearrange

from common.data.worlds.shape_layout import Background, Layout, Shape, local_frame, signed_distance

HAZE = 0.3  # how far the colour of an object at depth 1 has faded into the background's
SPECKLES = np.random.default_rng(0).random((64, 64), np.float32)


def draw(layout: Layout, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a layout, and its masks.

    Args:
        layout: objects and background.
        resolution: side R of the picture, pixels.
        rng: source of the sensor's noise.

    Returns:
        image uint8 [R, R, 3]; masks of what shows of each object, bool [K, R, R].
    """
    picture = backdrop(layout.background, resolution)
    air = (layout.background.rgb + layout.background.second) / 2
    owner = np.full((resolution, resolution), -1, np.int8)
    for k, shape in reversed(list(enumerate(layout.objects))):
        (rows, columns), x, y = local_frame(shape, resolution)
        distance = signed_distance(shape.kind, x, y, shape.ratio)
        colours = surface(shape, x, y, distance, resolution)
        colours += HAZE * shape.depth * (air[:, None, None] - colours)
        under = picture[:, rows, columns]
        under += _coverage(distance * shape.radius * resolution) * (colours - under)
        owner[rows, columns][distance < 0] = k
    picture *= layout.brightness
    picture += layout.noise * rng.standard_normal(picture.shape, np.float32)
    pixels = (255 * picture.clip(0, 1) + 0.5).astype(np.uint8)
    masks = owner == np.arange(len(layout.objects), dtype=np.int8)[:, None, None]
    return np.ascontiguousarray(rearrange(pixels, "c h w -> h w c")), masks


def backdrop(background: Background, resolution: int) -> np.ndarray:
    """Background, float32 [3, R, R] in [0, 1]."""
    place = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution - 0.5
    cos, sin = float(np.cos(background.angle)), float(np.sin(background.angle))
    along = cos * place + sin * place[:, None]
    match background.kind:
        case "plain":
            mix = np.zeros_like(along)
        case "shaded":
            mix = along / (abs(cos) + abs(sin)) + 0.5
        case "cloudy":
            knots = len(background.grid)
            nearness = (1 - abs((place[:, None] + 0.5) * (knots - 1) - np.arange(knots, dtype=np.float32))).clip(0)
            weight = nearness**2 * (3 - 2 * nearness)  # no creases at the knots
            mix = weight @ background.grid @ weight.T
        case "striped":
            distance = abs((along / background.pitch + background.shift) % 1 - 0.5) - 0.25
            mix = 0.6 * _coverage(distance * background.pitch * resolution)
        case _:  # split, along a slightly bent line
            across = cos * place[:, None] - sin * place
            bend = background.pitch * np.sin(2 * np.pi * (across + background.shift)) / 2
            mix = _coverage((along + bend + 0.4 * (background.shift - 0.5)) * resolution)
    first, second = background.rgb[:, None, None], background.second[:, None, None]
    return first + mix * (second - first)


def surface(shape: Shape, x: np.ndarray, y: np.ndarray, distance: np.ndarray, resolution: int) -> np.ndarray:
    """Colours of a shape's surface, textured and shaded, float32 [3, h, w].

    Args:
        shape: the object.
        x, y: places in the shape's own frame, over its radius, [h, w].
        distance: signed distance to its outline there, over its radius, [h, w].
        resolution: side of the whole picture, pixels.
    """
    scale = shape.radius / shape.pitch
    u, v = x * scale + shape.phase[0], y * scale + shape.phase[1]
    pixels = shape.pitch * resolution  # a period of the texture
    match shape.texture:
        case "plain":
            mix = np.zeros_like(x)
        case "striped":
            mix = _coverage((abs(u % 1 - 0.5) - 0.2) * pixels)
        case "dotted":
            mix = _coverage((np.hypot(u % 1 - 0.5, v % 1 - 0.5) - 0.3) * pixels)
        case "checked":
            columns, rows = abs(u % 1 - 0.5) - 0.25, abs(v % 1 - 0.5) - 0.25
            either = np.maximum(np.minimum(columns, rows), -np.maximum(columns, rows))  # not both
            mix = _coverage(either * pixels)
        case _:  # speckled
            mix = 0.8 * SPECKLES[np.floor(2.5 * u).astype(int) & 63, np.floor(2.5 * v).astype(int) & 63]
    first, second = shape.rgb[:, None, None], shape.second[:, None, None]
    colours = first + mix * (second - first)
    if shape.core is not None:
        deepest = signed_distance(shape.kind, np.zeros(1), np.zeros(1), shape.ratio).item()  # at the origin
        inner = _coverage((distance - 0.5 * deepest) * shape.radius * resolution)
        colours += inner * (shape.core[:, None, None] - colours)
    along, down, rim = shape.light
    colours *= 1 + along * x + down * y - rim * (x * x + y * y)
    return colours


def _coverage(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel lies within an outline at a signed distance, in pixels: anti-aliased edges."""
    return (0.5 - distance).clip(0, 1)
