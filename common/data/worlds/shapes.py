"""The world of shapes: pictures of textured, overlapping shapes with masks, attributes, depth, relations and captions.

Every scene follows from (seed, split, index): the same in any process and in any order. A scene's objects, relations
and captions do not depend on the resolution at which it is drawn.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from common.data.prompts import tight_boxes
from common.data.scene import Scene, SceneSource
from common.data.worlds.shape_drawing import draw
from common.data.worlds.shape_layout import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    GRID,
    MAX_OBJECTS,
    SIZES,
    TEXTURES,
    Layout,
    draw_layout,
    footprint,
)
from common.errors import UserError, unknown

SPLITS = ("train", "val", "test")
INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}
PREDICATES = tuple(INVERSE)
PHRASES = {  # how captions put a predicate
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
    "in front of": ("in front of", "partly covering"),
    "behind": ("behind", "partly covered by"),
}
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
OPENINGS = ("", "there is ", "a picture of ", "a scene with ")
VOCABULARY = tuple(
    sorted(
        {",", ".", "a", "an", "another", "and", "is", "on", "background", "shapes", "there", "are", "with"}
        | {*CLASSES, *COLOURS, *SIZES, *TEXTURES, *BACKGROUNDS, *COUNTS.values()}
        | {word for text in (*OPENINGS, *sum(PHRASES.values(), ())) for word in text.split()}
    )
)
"""Every token of `caption` and `tags`: lower-case words, comma and full stop."""

MARGIN = 0.1  # a smaller distance between the centres of two boxes, over the image's side, makes no relation
MIN_HIDDEN = 4  # cells of the layout's grid that an object must hide of another one to be "in front of" it


@dataclass
class ShapeScene(Scene):
    """A scene with everything that is known of it; what is derived is computed when it is first asked for.

    Objects are in the order of their depth, nearest first: object k is the k-th of `masks`, which do not overlap and
    hold what shows of it, and the k-th entry of every attribute.

    Attributes:
        layout: what was drawn.
        key: seed, split and index as numbers.
    """

    layout: Layout
    key: tuple[int, int, int]

    @property
    def classes(self) -> list[str]:
        """Names out of CLASSES, K of them."""
        return [shape.kind for shape in self.layout.objects]

    @property
    def colours(self) -> list[str]:
        """Names out of COLOURS."""
        return [shape.colour for shape in self.layout.objects]

    @property
    def sizes(self) -> list[str]:
        """Names out of SIZES, by the area of the whole object, hidden parts included."""
        return [shape.size for shape in self.layout.objects]

    @property
    def textures(self) -> list[str]:
        """Names out of TEXTURES."""
        return [shape.texture for shape in self.layout.objects]

    @property
    def background(self) -> str:
        """A name out of BACKGROUNDS."""
        return self.layout.background.kind

    @cached_property
    def boxes(self) -> np.ndarray:
        """The smallest box round each mask, inclusive pixel indices (x0, y0, x1, y1), float32 [K, 4]."""
        return tight_boxes(np.asarray(self.masks))

    @cached_property
    def depth(self) -> np.ndarray:
        """Distance from the camera, float32 [H, W]: objects, tilted a little, in (0.1, 0.8); background in (0.85, 1).

        The ranges of two objects do not overlap.
        """
        height, width = self.image.shape[:2]
        y, x = ((np.arange(n, dtype=np.float32) + 0.5) / n for n in (height, width))
        depth = np.repeat(1 - 0.15 * y[:, None], width, 1)
        for shape, mask in zip(self.layout.objects, np.asarray(self.masks), strict=True):
            across, down = (slope / shape.radius for slope in shape.slope)
            plane = shape.depth + across * (x - shape.x) + down * (y - shape.y)[:, None]
            depth[mask] = plane[mask]
        return depth

    @cached_property
    def relations(self) -> list[tuple[int, str, int]]:
        """(subject, predicate, object) with positions in this scene and PREDICATES; each also in its inverse form.

        A pair is "left of"/"right of" or "above"/"below" along the axis on which the centres of its boxes lie farther
        apart, unless they are close together; "in front of"/"behind" where one is seen to cover part of the other. All
        are judged at 64 pixels, whatever the resolution of the picture.
        """
        whole = np.stack([footprint(shape, GRID) for shape in self.layout.objects])
        shown = whole & ~(np.cumsum(whole, 0) - whole).astype(bool)
        hidden = np.einsum("ip,jp->ij", *(m.reshape(len(m), -1).astype(np.float32) for m in (shown, whole)))
        boxes = tight_boxes(shown)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / GRID
        found = []
        for i in range(len(whole)):
            for j in range(i + 1, len(whole)):
                offset = centres[j] - centres[i]
                axis = int(abs(offset[1]) > abs(offset[0]))
                if abs(offset[axis]) >= MARGIN:
                    ahead, beyond = ("left of", "right of") if axis == 0 else ("above", "below")
                    found.append((i, ahead if offset[axis] > 0 else beyond, j))
                if hidden[i, j] >= MIN_HIDDEN:
                    found.append((i, "in front of", j))
        return [triple for i, name, j in found for triple in ((i, name, j), (j, INVERSE[name], i))]

    @cached_property
    def caption(self) -> str:
        """One or two sentences, always the same for this scene; `caption` below makes others."""
        return caption(self, np.random.default_rng((*self.key, 1)))


class ShapeScenes(SceneSource):
    """A split of the world of shapes.

    Args:
        split: train, val or test; their scenes come from different random streams.
        size: number of scenes; a larger split begins with the scenes of a smaller one.
        resolution: side of the pictures in pixels, 32 or more.
        seed: which world; the same for all splits and runs that are compared.
        max_objects: at most this many objects; there are at least two, unless this is 1.
        plain: no textures, and plain or shaded backgrounds only.

    Raises:
        UserError: unknown split, or a number outside its range.
    """

    def __init__(
        self,
        split: str,
        size: int,
        resolution: int = 64,
        seed: int = 0,
        max_objects: int = MAX_OBJECTS,
        plain: bool = False,
    ):
        if split not in SPLITS:
            raise unknown("split of the world of shapes", split, SPLITS)
        if size < 1 or resolution < 32 or not 1 <= max_objects <= MAX_OBJECTS or not 0 <= seed < 2**32:
            raise UserError(
                f"world of shapes: size {size} must be 1 or more, resolution {resolution} 32 or more, "
                f"max_objects {max_objects} in [1, {MAX_OBJECTS}], seed {seed} in [0, 2^32)"
            )
        self.split, self.size, self.resolution, self.seed = split, size, resolution, seed
        self.max_objects, self.plain = max_objects, plain

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> ShapeScene:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        key = (self.seed, SPLITS.index(self.split), int(index))
        rng = np.random.default_rng(key)
        layout = draw_layout(rng, self.max_objects, self.plain)
        image, masks = draw(layout, self.resolution, rng)
        return ShapeScene(image, masks, f"{self.split}-{index:06d}", layout, key)


def caption(scene: ShapeScene, rng: np.random.Generator) -> str:
    """A random true description: some of the objects, or how many there are, the background, a relation; lower case."""
    count = len(scene.classes)
    if rng.random() < 0.2:
        first = f"there are {COUNTS[count]} shapes"
    else:
        chosen = rng.permutation(count)[: rng.integers(1, 4)]
        first = OPENINGS[rng.integers(len(OPENINGS))] + _enumeration([_name(scene, int(k), rng) for k in chosen])
    if rng.random() < 0.5:
        first += f" on a {scene.background} background"
    if not scene.relations or rng.random() < 0.3:
        return f"{first}."
    i, predicate, j = scene.relations[rng.integers(len(scene.relations))]
    phrases = PHRASES[predicate]
    subject, other = _distinct([_name(scene, i, rng), _name(scene, j, rng)])
    return f"{first}. {subject} is {phrases[rng.integers(len(phrases))]} {other}."


def tags(scene: ShapeScene) -> str:
    """All objects, nearest first, and the background, separated by commas: "large plain red disc, ..."."""
    objects = zip(scene.sizes, scene.textures, scene.colours, scene.classes, strict=True)
    return ", ".join([*map(" ".join, objects), f"{scene.background} background"])


def _name(scene: ShapeScene, k: int, rng: np.random.Generator) -> str:
    """Object k with its colour and perhaps its size and texture, with an article."""
    words = [scene.colours[k], scene.classes[k]]
    if rng.random() < (0.2 if scene.textures[k] == "plain" else 0.6):
        words.insert(0, scene.textures[k])
    if rng.random() < 0.5:
        words.insert(0, scene.sizes[k])
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _distinct(names: list[str]) -> list[str]:
    """The same names; one that has been used already begins with "another"."""
    return [
        f"another {name.split(' ', 1)[1]}" if name in names[:position] else name for position, name in enumerate(names)
    ]


def _enumeration(names: list[str]) -> str:
    names = _distinct(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
