"""Images of one's own with PNG masks of every kind, and what is wrong with them."""

import numpy as np
import pytest
from PIL import Image

from common.data.scene import UnreadableSample
from common.errors import UserError
from projects.mobilesam.data import MaskFolder
from tests.projects.mobilesam_small import HEIGHT, SHAPES, WIDTH, picture


def rectangles() -> np.ndarray:
    masks = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, SHAPES.values(), strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return masks


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16", "folder"])
def test_png_masks_of_every_kind(mode, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks / "a"):
        folder.mkdir(parents=True)
    Image.fromarray(picture()).save(images / "a.jpg", quality=95)
    Image.fromarray(picture()).save(images / "unmarked.jpg")
    left, right = rectangles()
    numbers = (left * 1 + right * 2).astype(np.uint8)
    if mode == "folder":
        for name, mask in (("1", left), ("2", right)):
            Image.fromarray(mask).save(masks / "a" / f"{name}.png")
    elif mode == "P":
        drawn = Image.fromarray(numbers, "P")
        drawn.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])  # a background that is not black
        drawn.save(masks / "a.png")
    elif mode == "I;16":
        Image.fromarray(numbers.astype(np.uint16) * 1000).save(masks / "a.png")
    else:
        colours = np.array([(0, 0, 0), (0, 9, 0), (200, 0, 1)], np.uint8)[numbers]
        drawn = Image.fromarray(numbers) if mode == "L" else Image.fromarray(colours)
        drawn.convert(mode).save(masks / "a.png")
    (scene,) = list(MaskFolder(str(images), str(masks)))
    assert sorted(map(bytes, scene.masks)) == sorted(map(bytes, rectangles())) and scene.name == "a"


def test_images_alone_and_masks_of_another_size(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    (scene,) = list(MaskFolder(str(images)))
    assert scene.masks.shape == (0, HEIGHT, WIDTH)
    with pytest.raises(UserError, match="0 images .* leave none"):
        MaskFolder(str(images), str(masks))
    Image.new("L", (5, 5), 1).save(masks / "a.png")
    with pytest.raises(UnreadableSample, match=r"a\.png: is \(5, 5\) pixels"):
        MaskFolder(str(images), str(masks))[0]
    (masks / "a.png").write_text("no picture")
    with pytest.raises(UnreadableSample, match="cannot be decoded"):
        MaskFolder(str(images), str(masks))[0]
