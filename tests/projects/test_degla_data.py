"""DeGLA's readers on files as they are released, its crops, and the tiles' items."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.worlds.tile_words import FOILS
from common.errors import UserError
from projects.degla.benches import AroOrder, AroPairs, Negatives, SugarCrepe, Valse
from projects.degla.data import Items, cropped, together
from projects.degla.tiles import TileItems
from tests.golden import ROOT

REAL = ROOT / "../shared/data"
PHOTOGRAPHS = REAL / "coco128/images/val2017"


@pytest.fixture
def pictures(tmp_path):
    """A folder with a picture whose right half is red, in a folder of its own."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:, 0] = 255
    (tmp_path / "images/train2014").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "images/train2014/COCO_train2014_000000000007.jpg", quality=95)
    return tmp_path / "images"


def written(folder: Path, content) -> str:
    file = folder / "items.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_negatives_as_released_and_of_own_pictures(pictures):
    entry = {"image_id": 7, "original": "a dog", "enhanced": ["a cat", "b", "c", None, "e"], "more": 1}
    own = {"image": "COCO_train2014_000000000007.jpg", "original": "x y", "enhanced": ["y x", "2", "3", "4"]}
    source = Negatives(written(pictures.parent, [entry, own]), str(pictures))
    assert (source[0].caption, source[0].foils) == ("a dog", ("a cat", "b", "c", "None"))
    assert source[1].foils == ("y x", "2", "3", "4") and source[1].image.shape == (20, 40, 3)
    assert Negatives(written(pictures.parent, [entry]), str(pictures), negatives=2)[0].foils == ("a cat", "b")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"image_id": 7, "original": "a", "enhanced": ["b"]}], "entry 0, has 1 negatives, fewer than 4"),
        ([{"original": "a", "enhanced": list("bcde")}], "neither image_id nor image"),
        ([{"image_id": 8, "original": "a", "enhanced": list("bcde")}], "none of the pictures"),
        ([], "no items"),
        ({"a": 1}, "not as expected"),
    ],
)
def test_bad_negatives(pictures, content, said):
    with pytest.raises(UserError, match=said):
        Negatives(written(pictures.parent, content), str(pictures))


def test_relations_look_at_their_box_alone(pictures):
    name = "COCO_train2014_000000000007.jpg"
    row = {"image_path": name, "true_caption": "a", "false_caption": "b", "relation_name": "on"}
    inside = AroPairs(
        written(pictures.parent, [row | {"bbox_x": 24, "bbox_y": 2, "bbox_w": 10, "bbox_h": 12}]), str(pictures)
    )
    assert inside[0].image.shape == (12, 10, 3) and inside[0].image[..., 0].min() > 200
    outside = AroPairs(
        written(pictures.parent, [row | {"bbox_x": 90, "bbox_y": 2, "bbox_w": 10, "bbox_h": 12}]), str(pictures)
    )
    with pytest.raises(UserError, match="nothing in the box"):
        Items(outside, 16)[0]


def test_order_has_as_many_foils_everywhere(pictures):
    name = "train2014/COCO_train2014_000000000007.jpg"
    rows = [{"image": name, "caption_options": ["a b c", "b a c", "c b a", "a c b", "c a b"]}]
    assert AroOrder(written(pictures.parent, rows), str(pictures))[0].foils[1] == "c b a"
    rows.append({"image": name, "caption_options": ["a", "b"]})
    with pytest.raises(UserError, match="same number of options"):
        AroOrder(written(pictures.parent, rows), str(pictures))


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no real pictures at {PHOTOGRAPHS}")
def test_real_sugarcrepe_and_valse():
    counts = {"add_att": 692, "add_obj": 2062, "replace_att": 788, "replace_obj": 1652, "replace_rel": 1406}
    counts |= {"swap_att": 666, "swap_obj": 245}
    for kind, count in counts.items():
        source = SugarCrepe(str(REAL / f"sugarcrepe/{kind}.json"), str(PHOTOGRAPHS))
        assert len(source) == count
        at = next(k for k, name in enumerate(source.names) if name)
        assert source[at].image.ndim == 3 and source[at].foils != (source[at].caption,)
    found = {piece: REAL / f"valse/{piece}.json" for piece in ("plurals", "relations")}
    assert {n: len(Valse(str(f), str(PHOTOGRAPHS))) for n, f in found.items()} == {"plurals": 851, "relations": 535}
    for piece, count in {"existence": 505, "coreference-standard": 708, "counting-hard": 868}.items():
        with pytest.raises(UserError, match="none of the pictures"):
            Valse(str(REAL / f"valse/{piece}.json"), str(PHOTOGRAPHS))
        rows = json.loads((REAL / f"valse/{piece}.json").read_text()).values()
        assert sum(row["mturk"]["caption"] >= 2 for row in rows) == count


def test_crops_keep_nearly_all_and_are_never_mirrored():
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 40:] = 255
    crops = [cropped(image, 32, np.random.default_rng(k)) for k in range(30)]
    assert all(crop.shape == (32, 32, 3) and crop[:, :8].max() < 60 and crop[:, -8:].min() > 200 for crop in crops)
    assert len({crop.tobytes() for crop in crops}) > 5
    thin = cropped(np.zeros((10, 100, 3), np.uint8), 16, np.random.default_rng(0))
    assert thin.shape == (16, 16, 3)


def test_tiles_have_foils_that_are_wrong_and_no_scene_twice():
    train, test = (TileItems(split, 40, FOILS, shapes=["disc", "bar"]) for split in ("train", "test"))
    items = [train[k] for k in range(40)]
    assert all(len({item.caption, *item.foils}) == 6 for item in items)
    assert not {i.image.tobytes() for i in items} & {test[k].image.tobytes() for k in range(40)}
    again = TileItems("train", 40, FOILS, shapes=["disc", "bar"])[7]
    assert (again.caption, again.foils) == (items[7].caption, items[7].foils)
    with pytest.raises(UserError, match="unknown kind of foil 'swap_color'.*swap_colour"):
        TileItems("train", 4, ["swap_color"])
    batch = together([Items(train, 16)[k] for k in range(3)])
    assert batch["image"].shape == (3, 3, 16, 16) and batch["image"].min() >= 0 and batch["image"].max() <= 1
    assert torch.is_tensor(batch["image"]) and len(batch["texts"]) == 3 and len(batch["texts"][0]) == 6
