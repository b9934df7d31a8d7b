"""Images and masks of one's own: COCO's instances as tools export them, PNG masks of every kind, and what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from common.data.scene import UnreadableSample
from common.errors import UserError
from projects.mobilesam.data import CocoInstances, MaskFolder
from tests.projects.mobilesam_small import HEIGHT, SHAPES, WIDTH, picture


def rectangles() -> np.ndarray:
    masks = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, SHAPES.values(), strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return masks


def segmentations() -> dict[str, list]:
    """The two rectangles in each of COCO's forms."""
    boxes = [(x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in SHAPES.values()]
    encoded = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in rectangles()]
    runs = []
    for mask in rectangles():
        flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
        edges = np.flatnonzero(np.diff(flat))
        runs.append(np.diff(edges, prepend=0).tolist())
    return {
        "polygon": [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes],
        "compressed": [{"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()} for rle in encoded],
        "counts": [{"size": [HEIGHT, WIDTH], "counts": counts} for counts in runs],
    }


def write(folder: Path, found: list, name: str = "a.png", **more) -> dict[str, str]:
    """An image and a JSON with these segmentations -> the source's arguments."""
    (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture()).save(folder / "images" / name)
    annotations = [{"image_id": 7, "segmentation": segmentation} for segmentation in found]
    content = {"images": [{"id": 7, "file_name": name}], "annotations": annotations, **more}
    (folder / "own.json").write_text(json.dumps(content))
    return {"images": str(folder / "images"), "annotations": str(folder / "own.json")}


@pytest.mark.parametrize("form", ["polygon", "compressed", "counts"])
def test_coco_masks_of_every_form(form, tmp_path):
    (scene,) = list(CocoInstances(**write(tmp_path, segmentations()[form], "deep/a.png")))
    assert np.array_equal(scene.image, picture()) and np.array_equal(scene.masks, rectangles())


@pytest.mark.parametrize("name", ["/data/mine/images/a.png", "C:\\\\data\\\\a.png", "images/a.png"])
def test_images_are_found_by_the_end_of_their_names(name, tmp_path):
    given = write(tmp_path, segmentations()["polygon"])
    file = Path(given["annotations"])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b'"a.png"', f'"{name}"'.encode()))
    (scene,) = list(CocoInstances(**given))
    assert scene.name == "a.png" and len(scene.masks) == 2


def test_crowds_missing_images_and_other_images_are_left_out(tmp_path):
    given = write(tmp_path, segmentations()["polygon"])
    content = json.loads(Path(given["annotations"]).read_text())
    content["images"] += [{"id": 8, "file_name": "gone.png"}, {"id": 9, "file_name": "plain.png"}]
    content["annotations"] += [
        {"image_id": 7, "segmentation": segmentations()["counts"][0], "iscrowd": 1},
        {"image_id": 8, "segmentation": segmentations()["counts"][0]},
        {"image_id": 99, "segmentation": []},
    ]
    Path(given["annotations"]).write_text(json.dumps(content))
    (scene,) = list(CocoInstances(**given))
    assert len(scene.masks) == 2


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "three or more"), ([[1, 2, 3, 4]], "three or more"), ([[1, 2, 3, 4, 5, float("inf")]], "no pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "does not cover"), ({"size": [1, 1], "counts": "1"}, "a mask is"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~"}, "broken RLE"), (None, "segmentation of a.png"), ("x", "a.png"),
        ({"counts": "1"}, "size"), ({"size": [HEIGHT, WIDTH], "counts": [[1]]}, "a.png"), ([["a"] * 6], "a.png"),
        ({"size": [HEIGHT, WIDTH], "counts": [0.5, HEIGHT * WIDTH]}, "no whole numbers"),
    ],
)  # fmt: skip
def test_broken_segmentations_name_file_and_image(segmentation, message, tmp_path):
    source = CocoInstances(**write(tmp_path, [segmentation]))
    with pytest.raises(UnreadableSample, match=message) as error:
        source[0]
    assert "own.json" in str(error.value) and "a.png" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is truncated or damaged"), ("[]", "is not as expected"), ("{}", "is not as expected: images"),
        ('{"images": [], "annotations": [1]}', r"annotations\[0\]"), ("[" * 100_000, "own.json"),
        ('{"images": [], "annotations": []}', "leave none of them"), ("", "damaged"), ("\0", "own.json"),
        ('{"images": [{"id": 7.5, "file_name": "a"}], "annotations": []}', r"images\[0\].id"),
        ('{"images": [{"id": 7, "file_name": "../a"}], "annotations": []}', "out of its folder"),
        ('{"images": [{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}], "annotations": []}', "the same id"),
    ],
)  # fmt: skip
def test_files_that_are_not_coco_s(text, message, tmp_path):
    given = write(tmp_path, [])
    Path(given["annotations"]).write_text(text)
    with pytest.raises(UserError, match=message):
        CocoInstances(**given)
    with pytest.raises(UserError, match="no folder .*gone of images"):
        CocoInstances(str(tmp_path / "gone"), given["annotations"])


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
