"""COCO's instances as tools and LVIS write them: masks of every form, and what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from common.data.readers.coco_instances import CocoInstances
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.rehearsal.datasets import make_lvis
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
    assert len(scene.masks) == 2 and not scene.crowd.any()
    (scene,) = list(CocoInstances(**given, crowd=True))
    assert scene.crowd.tolist() == [False, False, True]


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


def lvis(folder: Path, count: int = 1) -> dict[str, str]:
    """Images and a JSON as LVIS v1 has them: addresses for file names, polygons alone, categories by name."""
    (folder / "images/val2017").mkdir(parents=True)
    infos, annotations = [], []
    for number in range(1, count + 1):
        Image.fromarray(picture()).save(folder / f"images/val2017/{number:012d}.png")
        infos.append({"id": number, "coco_url": f"http://images.cocodataset.org/val2017/{number:012d}.png"})
        infos[-1] |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [], "height": HEIGHT, "width": WIDTH}
        annotations += [
            {"id": 2 * number + k, "image_id": number, "category_id": k + 1, "area": 9.0, "segmentation": polygon}
            for k, polygon in enumerate(segmentations()["polygon"])
        ]
    categories = [{"id": 1, "name": "aerosol_can", "frequency": "c"}, {"id": 2, "name": "air_conditioner"}]
    content = {"images": infos, "annotations": annotations, "categories": categories}
    (folder / "lvis_v1_val.json").write_text(json.dumps(content))
    return {"images": str(folder / "images"), "annotations": str(folder / "lvis_v1_val.json")}


def test_lvis_images_are_found_by_their_address_with_categories(tmp_path):
    (scene,) = list(CocoInstances(**lvis(tmp_path)))
    assert scene.name == "val2017/000000000001.png" and scene.categories == ["aerosol_can", "air_conditioner"]
    assert np.array_equal(scene.masks, rectangles())


def test_a_random_selection_is_the_same_every_time_and_parts_of_it_do_not_meet(tmp_path):
    given = lvis(tmp_path, 9)

    def names(**selection):
        return [scene.name for scene in CocoInstances(**given, **selection)]

    first, rest = names(limit=3, shuffle=0), names(offset=3, shuffle=0)
    assert first == names(limit=3, shuffle=0) != names(limit=3)
    assert sorted(first + rest) == names()


@pytest.mark.parametrize("selection", [{"offset": -1}, {"limit": 0}, {"shuffle": -1}])
def test_selections_that_mean_nothing(selection, tmp_path):
    with pytest.raises(UserError, match="0 or more"):
        CocoInstances(**lvis(tmp_path), **selection)


def test_an_image_without_a_name(tmp_path):
    given = write(tmp_path, segmentations()["polygon"])
    Path(given["annotations"]).write_text('{"images": [{"id": 7}], "annotations": []}')
    with pytest.raises(UserError, match="which file image 7 is"):
        CocoInstances(**given)


def test_the_stand_in_for_lvis_is_read(tmp_path):
    make_lvis(tmp_path, images=3, resolution=(40, 60))
    scenes = list(CocoInstances(str(tmp_path), str(tmp_path / "annotations/lvis_v1_val.json"), orient=False))
    assert [len(scene.masks) for scene in scenes] == [6, 6, 6] and scenes[0].categories[5] == "thing_6"
    assert {scene.name.split("/")[0] for scene in scenes} == {"val2017", "train2017"}
