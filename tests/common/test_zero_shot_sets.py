"""The eleven sets in CoOp's layout: what is read, and what is said where something is missing or odd."""

import json
import shutil
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from common.data.checks import check_sources
from common.data.readers.zero_shot_sets import SETS, SetName, ZeroShotSet, base_classes
from common.errors import UserError
from common.rehearsal.zero_shot_sets import make_zero_shot_set

CLASSES = ("abbey", "red_fox", "707-320", "Sea or Lake", "zebra")
NAMES = get_args(SetName)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for name in NAMES:
        make_zero_shot_set(root, name, CLASSES, images=2, resolution=(24, 32))
    return root


@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_read_in_its_own_layout(sets, name):
    train, test = ZeroShotSet(str(sets), name, "train"), ZeroShotSet(str(sets), name, "test")
    assert train.classes == test.classes == ("abbey", "red fox", "707-320", "Sea or Lake", "zebra")
    assert "{}" in train.template
    for source in (train, test):
        assert sorted(set(source.labels)) == [0, 1, 2, 3, 4] and len(source) == len(source.labels)
        picture = source[3]
        assert picture.image.shape == (24, 32, 3) and picture.label == source.labels[3] and picture.name
    assert not set(train.pictures) & set(test.pictures)


def test_eleven_sets_have_eleven_folders():
    assert set(SETS) == set(NAMES) and len({layout.folder for layout in SETS.values()}) == 11


@pytest.mark.parametrize("name", ["dtd", "imagenet"])
def test_halves_divide_the_classes_and_keep_their_labels(sets, name):
    base, novel = (ZeroShotSet(str(sets), name, "test", half) for half in ("base", "novel"))
    assert set(base.labels) == {0, 1, 2} and set(novel.labels) == {3, 4}
    assert base.classes == novel.classes
    assert len(base) + len(novel) == len(ZeroShotSet(str(sets), name, "test"))


@pytest.mark.parametrize("count, base", [(1000, 500), (47, 24), (37, 19), (1, 1)])
def test_the_first_half_is_rounded_up(count, base):
    assert base_classes(count) == base


def test_the_pixels_and_labels_are_those_of_the_split_file(tmp_path):
    make_zero_shot_set(tmp_path, "sun397", ("abbey", "cabin outdoor"), images=1)
    folder = tmp_path / "sun397"
    (folder / "SUN397/c/cabin").mkdir(parents=True)
    Image.fromarray(np.full((5, 6, 3), 77, np.uint8)).save(folder / "SUN397/c/cabin/x.png")
    rows = {"train": [["/c/cabin/x.png", 1, "cabin outdoor"]], "val": [], "test": [["a.jpg", 0, "abbey"]]}
    (folder / "split_zhou_SUN397.json").write_text(json.dumps(rows))
    [picture] = ZeroShotSet(str(tmp_path), "sun397", "train")  # a slash at the front means the folder of pictures
    assert picture.label == 1 and picture.image.tolist() == np.full((5, 6, 3), 77).tolist()


def test_imagenet_takes_the_names_of_all_classes_though_its_val_has_few(tmp_path):
    make_zero_shot_set(tmp_path, "imagenet", CLASSES, images=101, resolution=(8, 8))
    tune = ZeroShotSet(str(tmp_path), "imagenet", "val")
    assert [tune.classes[label].replace(" ", "_") for label in tune.labels] == ["abbey", "zebra"]  # pictures 0 and 500


@pytest.mark.parametrize(
    "name, missing, said",
    [
        ("dtd", "dtd", "no folder of the set dtd"),
        ("dtd", "dtd/images", "none of the pictures of dtd is there"),
        ("dtd", "dtd/split_zhou_DescribableTextures.json", "is missing"),
        ("stanford_cars", "stanford_cars/split_zhou_StanfordCars.json", "{cars_train,cars_test}"),
        ("fgvc_aircraft", "fgvc_aircraft/variants.txt", "variants.txt is missing"),
        ("fgvc_aircraft", "fgvc_aircraft/images_variant_test.txt", "images_variant_test.txt is missing"),
        ("fgvc_aircraft", "fgvc_aircraft/images", "none of the pictures"),
        ("imagenet", "imagenet/classnames.txt", "classnames.txt is missing"),
        ("imagenet", "imagenet/images", "no images at"),
    ],
)
def test_what_is_missing_is_said_with_where_it_comes_from(tmp_path, name, missing, said):
    make_zero_shot_set(tmp_path, name, CLASSES, images=1, resolution=(8, 8))
    path = tmp_path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    reader = {"class_path": "common.data.readers.zero_shot_sets.ZeroShotSet"}
    arguments = {"root": str(tmp_path), "name": name, "split": "test"}
    with pytest.raises(UserError, match="from: .*\n") as error:
        check_sources({"data": {**reader, "init_args": arguments}})
    assert said in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "rows, said",
    [
        ([["a.jpg", 0, "abbey"], ["b.jpg", 0, "barn"]], "calls class 0 'abbey' and 'barn'"),
        ([["a.jpg", 1, "abbey"]], "none with label 0"),
        ([["a.jpg", "0", "abbey"]], "not as expected"),
        ([["../../a.jpg", 0, "abbey"]], "must not lead out"),
        ([], "no train pictures"),
    ],
)
def test_odd_splits_are_refused(tmp_path, rows, said):
    make_zero_shot_set(tmp_path, "eurosat", CLASSES[:1], images=1, resolution=(8, 8))
    file = tmp_path / "eurosat/split_zhou_EuroSAT.json"
    file.write_text(json.dumps({"train": rows, "val": [], "test": []}))
    with pytest.raises(UserError, match=said):
        ZeroShotSet(str(tmp_path), "eurosat", "train")


def test_an_unknown_variant_of_aircraft_is_named_with_its_line(tmp_path):
    make_zero_shot_set(tmp_path, "fgvc_aircraft", CLASSES[:1], images=1, resolution=(8, 8))
    file = tmp_path / "fgvc_aircraft/images_variant_test.txt"
    file.write_text(file.read_text() + "0034309 Concorde\n")
    with pytest.raises(UserError, match="line 2: 0034309 Concorde"):
        ZeroShotSet(str(tmp_path), "fgvc_aircraft", "test")


def test_a_half_without_pictures_is_refused(tmp_path):
    make_zero_shot_set(tmp_path, "food101", CLASSES[:1], images=1, resolution=(8, 8))
    with pytest.raises(UserError, match="food101 has no test pictures of its novel classes"):
        ZeroShotSet(str(tmp_path), "food101", "test", "novel")
