"""Small labelled pictures of one object each, cut out of the world of shapes: the size of CIFAR's, in a millisecond."""

import numpy as np
from PIL import Image

from common.data.images import Picture, PictureSource
from common.data.worlds.shape_layout import CLASSES, COLOURS
from common.data.worlds.shapes import ShapeScenes

DRAWN = 64  # pixels; the object is cut out and scaled from there
REACH = (1.15, 1.4)  # half of the cut-out over the object's radius
SHIFT = 0.15  # how far from the middle the object lies at most, over its radius


class ShapeCrops(PictureSource):
    """A shape of random place, size and rotation, with a texture on a patterned background unless `plain`.

    The label is the shape (out of CLASSES), the caption has colour, texture and shape: "a red striped star".

    Args:
        split: train, val or test.
        size: number of pictures; a larger split begins with the pictures of a smaller one.
        resolution: side of the pictures, pixels.
        seed: which world.
        plain: no textures, and plain or shaded backgrounds only.
    """

    classes = CLASSES

    def __init__(self, split: str, size: int, resolution: int = 32, seed: int = 0, plain: bool = False):
        self.scenes = ShapeScenes(split, size, DRAWN, seed, max_objects=1, plain=plain)
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Picture:
        scene = self.scenes[index]
        shape = scene.layout.objects[0]
        rng = np.random.default_rng((*scene.key, 2))
        half = min(shape.radius * rng.uniform(*REACH), 0.5)
        centre = np.array([shape.x, shape.y]) + shape.radius * rng.uniform(-SHIFT, SHIFT, 2)
        x, y = centre.clip(half, 1 - half)
        left, top, right, bottom = (DRAWN * float(v) for v in (x - half, y - half, x + half, y + half))
        image = Image.fromarray(scene.image).resize(
            (self.resolution, self.resolution), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
        )
        texture = "" if shape.texture == "plain" else f"{shape.texture} "
        article = "an" if shape.colour[0] in "aeiou" else "a"
        caption = f"{article} {shape.colour} {texture}{shape.kind}"
        return Picture(np.array(image), CLASSES.index(shape.kind), caption, scene.name)


def colour_of(caption: str) -> int:
    """Index in COLOURS of the colour that a caption of this world names."""
    return list(COLOURS).index(caption.split()[1])
