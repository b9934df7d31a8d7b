"""Readers of COCO panoptic and SA-1B: what they yield, and what they say about bad input."""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

from common.data import archives
from common.data.readers.captioned_tars import CaptionedTars
from common.data.readers.coco_panoptic import CocoPanoptic
from common.data.readers.sa1b import SA1B, EncodedMasks, pack_sa1b, rle_runs, write_sa1b
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.rehearsal.sa1b import make_sa1b

COCO = Path(os.environ.get("DATA_ROOT", "../shared/data")) / "coco128"
real_coco = pytest.mark.skipif(not COCO.is_dir(), reason=f"no real COCO images at {COCO}; set DATA_ROOT")


def same(left, right) -> bool:
    return (
        left.name == right.name
        and np.array_equal(left.image, right.image)
        and np.array_equal(left.masks, right.masks)
        and np.asarray(left.masks).dtype == np.asarray(right.masks).dtype == bool
    )


# COCO panoptic


@pytest.fixture
def coco(tmp_path) -> Path:
    """One 4x6 image in COCO's own layout: sky 1 (14 px), person 258 (6 px), crowd 65536 (3 px), speck 5 (1 px)."""
    ids = np.full((4, 6), 1)
    ids[:, 4:] = 258
    ids[0, 3:] = 65536
    ids[3, 4:] = 5, 1
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    pngs, images = tmp_path / "annotations/panoptic_val2017", tmp_path / "val2017"
    pngs.mkdir(parents=True)
    images.mkdir()
    Image.fromarray(colours).save(pngs / "000000000007.png")
    Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(images / "000000000007.jpg")
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / "000000000008.jpg")  # without annotations
    segments = [(258, 1, 0), (1, 187, 0), (65536, 1, 1), (5, 1, 0)]
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 8, "file_name": "000000000008.jpg"}],
        "annotations": [
            {
                "image_id": 7,
                "file_name": "000000000007.png",
                "segments_info": [{"id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in segments],
            }
        ],
        "categories": [{"id": 1, "name": "person", "isthing": 1}, {"id": 187, "name": "sky", "isthing": 0}],
    }
    (tmp_path / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_masks_are_the_segments_of_the_png(coco):
    scene = CocoPanoptic(str(coco), "val", min_area=0.1)[0]
    assert (scene.name, scene.categories) == ("000000000007", ["person", "sky"])  # neither crowd nor speck
    person, sky = scene.masks
    expected = np.zeros((4, 6), bool)
    expected[1:3, 4:] = True
    assert np.array_equal(person, expected)
    assert sky.sum() == 24 - 4 - 3 - 1 and not (sky & person).any()
    assert scene.image.shape == (4, 6, 3) and scene.image.dtype == np.uint8


def test_coco_selects_by_area_and_kind(coco):
    assert CocoPanoptic(str(coco), "val", min_area=0)[0].categories == ["person", "sky", "person"]
    assert CocoPanoptic(str(coco), "val", min_area=0.1, things_only=True)[0].categories == ["person"]
    assert CocoPanoptic(str(coco), "val", min_area=0.99)[0].masks.shape == (0, 4, 6)


def test_coco_shrinks_image_and_masks_alike(coco):
    scene = CocoPanoptic(str(coco), "val", min_area=0.1, longest_side=3)[0]
    assert scene.image.shape == (2, 3, 3) and scene.masks.shape[1:] == (2, 3)
    assert scene.masks.any((1, 2)).all()
    whole = CocoPanoptic(str(coco), "val", min_area=0.1, longest_side=6)[0]  # already as small
    assert whole.image.shape == (4, 6, 3)


def test_coco_offset_and_limit_select_images(coco):
    assert len(CocoPanoptic(str(coco), "val", limit=1)) == 1
    with pytest.raises(UserError, match="offset 1, limit None leave nothing"):
        CocoPanoptic(str(coco), "val", offset=1)


def test_coco_lists_only_annotated_images(coco):
    source = CocoPanoptic(str(coco), "val")
    assert source.names == ["000000000007"] and len(source) == 1
    with pytest.raises(IndexError):
        source[1]


def test_coco_root_may_be_a_variable(coco, monkeypatch):
    monkeypatch.setenv("SOME_ROOT", str(coco))
    assert len(CocoPanoptic("$SOME_ROOT", "val")) == 1


@pytest.mark.parametrize(
    "missing", ["val2017", "annotations/panoptic_val2017", "annotations/panoptic_val2017.json", ""]
)
def test_coco_missing_part_says_what_and_where_from(coco, missing):
    path = coco / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError) as error:
        CocoPanoptic(str(coco), "val")
    text = str(error.value)
    assert str(path) in text and "COCO 2017" in text and "cocodataset.org" in text
    assert "CC BY 4.0" in text and "Flickr" in text and "expected: images/{train,val}2017" in text


def test_coco_without_any_of_its_images(coco):
    (coco / "val2017/000000000007.jpg").unlink()
    with pytest.raises(UserError, match="none of the 1 images"):
        CocoPanoptic(str(coco), "val")


@pytest.mark.parametrize(
    "content, said",
    [
        ('{"images": [', "truncated or damaged"),
        ('{"images": []}', "annotations: Field required; categories: Field required"),
        ("[]", "should be an object"),
    ],
)
def test_coco_bad_json(coco, content, said):
    path = coco / "annotations/panoptic_val2017.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        CocoPanoptic(str(coco), "val")
    assert str(path) in str(error.value)


def test_coco_instances_json_is_not_panoptic(coco):
    path = coco / "annotations/panoptic_val2017.json"
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": [{"image_id": 7, "bbox": []}]}))
    with pytest.raises(UserError, match=r"annotations\[0\].*segments_info: Field required"):
        CocoPanoptic(str(coco), "val")


@pytest.mark.parametrize("file", ["val2017/000000000007.jpg", "annotations/panoptic_val2017/000000000007.png"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "gone", "text"])
def test_coco_corrupt_file_is_unreadable(coco, file, damage):
    source, path = CocoPanoptic(str(coco), "val"), coco / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) * 2 // 3], "empty": b"", "text": b"<html>" * 9}[damage])
    with pytest.raises(UnreadableSample) as error:
        source[0]
    assert error.value.path == str(path) and error.value.reason


def test_coco_png_of_another_size_is_unreadable(coco):
    Image.new("RGB", (5, 5)).save(coco / "annotations/panoptic_val2017/000000000007.png")
    with pytest.raises(UnreadableSample, match=r"\(5, 5\) pixels, its image \(4, 6\)"):
        CocoPanoptic(str(coco), "val")[0]


def rewritten(coco: Path, edit) -> Path:
    """The fixture's JSON, changed by `edit`."""
    path = coco / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def moved(path: Path, name: str) -> str:
    (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
    path.rename(path.parent / name)
    return name


def test_coco_without_isthing_has_things(coco):
    rewritten(coco, lambda c: [kind.pop("isthing") for kind in c["categories"]])
    assert CocoPanoptic(str(coco), "val", min_area=0.1, things_only=True)[0].categories == ["person", "sky"]


@pytest.mark.parametrize(
    "said, there, name",
    [
        ("val2017/000000000007.jpg", None, "000000000007"),
        ("/data/mine/val2017/000000000007.jpg", None, "000000000007"),
        ("C:\\coco\\000000000007.jpg", None, "000000000007"),
        ("city/a b ü.jpg", "city/a b ü.jpg", "city/a b ü"),
        ("/data/city/7.jpg", "city/7.jpg", "city/7"),
    ],
)
def test_coco_file_names_may_hold_folders(coco, said, there, name):
    if there:
        moved(coco / "val2017/000000000007.jpg", there)
    rewritten(coco, lambda c: c["images"][0].update(file_name=said))
    source = CocoPanoptic(str(coco), "val", min_area=0.1)
    assert source.names == [name] and source[0].name == name and len(source[0].masks) == 2


def test_coco_names_that_lead_out_of_the_folder_are_refused(coco):
    rewritten(coco, lambda c: c["images"][0].update(file_name="../val2017/000000000007.jpg"))
    with pytest.raises(UserError, match=r"images\[0\].file_name: .*must not lead out of its folder"):
        CocoPanoptic(str(coco), "val")


def test_coco_folders_that_link_to_themselves_end(coco):
    (coco / "val2017/again").symlink_to(coco / "val2017")
    assert len(CocoPanoptic(str(coco), "val")) == 1


SECOND = {"image_id": 8, "file_name": "000000000007.png", "segments_info": []}


@pytest.mark.parametrize(
    "edit, said",
    [
        (
            lambda c: c["annotations"].append({"image_id": 8, "file_name": "8.png"}),
            r"annotations\[1\].segments_info: Fi",
        ),
        (lambda c: c["annotations"].append(c["annotations"][0]), "annotates image 7 twice"),
        (lambda c: c["annotations"].append(SECOND), "several images are called 000000000007.png"),
        (lambda c: c["images"].append(c["images"][0]), "several entries have the image id 7"),
        (lambda c: c["categories"].append(c["categories"][0]), "several entries have the category id 1"),
        (lambda c: c["categories"].pop(), "category 187, which is none"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(id="258"), r"segments_info\[0\].id: .*here '258'"),
        (lambda c: c["annotations"][0]["segments_info"][1].update(id=258), "two segments of 000000000007.png"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(id=1 << 24), "less than 16777216"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(iscrowd=None), "iscrowd"),
        (lambda c: c["annotations"][0].update(segments_info={}), "segments_info: Input should be a valid array"),
        (lambda c: c["annotations"][0].update(image_id=7.5), "image_id"),
        (lambda c: c["categories"][0].update(name=None), r"categories\[0\].name: Input should be a valid string"),
        (lambda c: c["images"][0].update(file_name=""), r"images\[0\].file_name"),
    ],
)
def test_coco_says_which_field_is_wrong(coco, edit, said):
    path = rewritten(coco, edit)
    with pytest.raises(UserError, match=said) as error:
        CocoPanoptic(str(coco), "val")
    assert str(path) in str(error.value) and len(str(error.value)) < 1500


IDS = np.array([[1] * 4 + [25] * 2] * 4)


@pytest.mark.parametrize("mode", ["grey", "16 bit", "alpha", "palette of colours"])
def test_coco_pngs_hold_ids_as_greys_or_as_colours(coco, mode):
    big = 26001 if mode == "16 bit" else 25
    ids = np.where(IDS == 25, big, IDS)
    colours = Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], -1).astype(np.uint8))
    image = {
        "grey": lambda: Image.fromarray(ids.astype(np.uint8)),
        "16 bit": lambda: Image.fromarray(ids.astype(np.uint16)),
        "alpha": lambda: Image.fromarray(np.dstack([np.array(colours), IDS.astype(np.uint8) * 0])),
        "palette of colours": lambda: colours.quantize(4),
    }[mode]()
    image.save(coco / "annotations/panoptic_val2017/000000000007.png")
    segments = [{"id": big, "category_id": 1}, {"id": 1, "category_id": 187}]
    rewritten(coco, lambda c: c["annotations"][0].update(segments_info=segments))
    masks = CocoPanoptic(str(coco), "val")[0].masks
    assert np.array_equal(masks, np.stack([IDS == 25, IDS == 1]))


def test_coco_png_of_another_json_is_unreadable(coco):
    Image.fromarray(np.full((4, 6, 3), (1, 1, 0), np.uint8)).save(
        coco / "annotations/panoptic_val2017/000000000007.png"
    )
    with pytest.raises(UnreadableSample, match=r"in the PNG alone: 257; in the JSON alone: 1, 5, 258, 65536"):
        CocoPanoptic(str(coco), "val")[0]


@pytest.mark.parametrize("kind", ["web page", "pointer", "deep", "latin-1"])
def test_coco_json_that_is_something_else(coco, kind):
    path = coco / "annotations/panoptic_val2017.json"
    content = {
        "web page": b"<!DOCTYPE html><html></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "deep": b'{"images": ' + b"[" * 100_000,
        "latin-1": path.read_bytes().replace(b"person", b"caf\xe9"),
    }[kind]
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        CocoPanoptic(str(coco), "val")
    said = {"web page": "is a web page", "pointer": "Git LFS", "deep": "recursion limit", "latin-1": "unicode"}[kind]
    assert str(path) in str(error.value) and said in str(error.value)


@real_coco
@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_photographs(split):
    source = CocoPanoptic(str(COCO), split, min_area=0)
    content = json.loads((COCO / f"panoptic_segmentation/annotations/panoptic_{split}2017.json").read_text())
    assert len(source) == len(content["annotations"]) == 100
    areas = {
        Path(entry["file_name"]).stem: sorted(s["area"] for s in entry["segments_info"] if not s["iscrowd"])
        for entry in content["annotations"]
    }
    for index in range(0, 100, 7):
        scene = source[index]
        assert scene.masks.shape[1:] == scene.image.shape[:2] and len(scene.categories) == len(scene.masks)
        assert scene.masks.sum(0).max() == 1  # panoptic segments do not overlap
        assert sorted(scene.masks.sum((1, 2)).tolist()) == areas[scene.name]


# SA-1B


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_sa1b(tmp_path_factory.mktemp("sa1b"), images=4, resolution=(40, 60), tar=False, first=9)


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> Path:
    """The images of `folder` and those of a second tar."""
    root = tmp_path_factory.mktemp("tars")
    make_sa1b(root, images=4, resolution=(40, 60), first=9)
    make_sa1b(root, images=3, resolution=(40, 60), first=11187)
    return root


def test_sa1b_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((5, 31, 47)) < np.array([0, 0.02, 0.5, 0.98, 1])[:, None, None]
    image = np.full((31, 47, 3), (200, 40, 90), np.uint8)
    write_sa1b(tmp_path, "sa_3", image, masks)
    scene = SA1B(str(tmp_path))[0]
    assert np.array_equal(scene.masks, masks) and np.asarray(scene.masks).dtype == bool
    assert np.abs(scene.image.astype(int) - image).max() < 6


@pytest.mark.parametrize("which", [2, slice(1, 3), np.array([3, 0, 3]), np.array([True, False, False, True, False])])
def test_masks_are_decoded_when_they_are_asked_for_as_an_array_would_give_them(tmp_path, monkeypatch, which):
    masks = np.random.default_rng(0).random((5, 6, 7)) < 0.5
    write_sa1b(tmp_path, "sa_3", np.zeros((6, 7, 3), np.uint8), masks)
    decoded, decode = [], coco_mask.decode
    monkeypatch.setattr(coco_mask, "decode", lambda rle: decoded.append(rle) or decode(rle))
    found = SA1B(str(tmp_path))[0].masks
    assert not decoded and found.shape == masks.shape and len(found) == 5
    chosen = found[which]
    assert np.array_equal(chosen, masks[which]) and chosen.dtype == bool and chosen.shape == masks[which].shape
    assert len(decoded) == np.arange(5)[which].size


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (64, 33)])
def test_rle_equals_pycocotools(shape):
    for seed in range(20):
        mask = np.random.default_rng(seed).random(shape) < seed / 19
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        masks = EncodedMasks([{"size": list(shape), "counts": rle["counts"].decode()}], shape)
        assert np.array_equal(masks[0], mask)


def test_rle_runs_closed_form():
    mask = np.zeros((100, 40), np.uint8, order="F")
    mask[7:60, 3] = mask[0:2, 30] = 1
    counts = coco_mask.encode(mask)["counts"].decode()
    assert rle_runs(counts).tolist() == [307, 53, 2640, 2, 998]


def test_sa1b_file_has_the_keys_of_the_release(folder):
    content = json.loads((folder / "sa_9.json").read_text())
    assert content["image"] == {"image_id": 9, "width": 60, "height": 40, "file_name": "sa_9.jpg"}
    for entry in content["annotations"]:
        assert entry.keys() == {
            "segmentation", "bbox", "area", "predicted_iou", "stability_score", "point_coords", "crop_box", "id",
        }  # fmt: skip
        mask = coco_mask.decode(entry["segmentation"])
        ys, xs = np.nonzero(mask)
        assert entry["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1] and entry["area"] == mask.sum()
        ((x, y),) = entry["point_coords"]
        assert mask[int(y), int(x)] == 1


def test_sa1b_numeric_order(folder):
    assert SA1B(str(folder)).names == ["sa_9", "sa_10", "sa_11", "sa_12"]


def test_sa1b_tar_equals_folder(folder, tars):
    packed, loose = SA1B(str(tars)), SA1B(str(folder))
    assert len(packed) == 7
    for index in range(4):
        assert same(packed[index], loose[index])
        assert np.array_equal(packed.image(index), loose[index].image)
    assert packed.names[4:] == ["sa_11187", "sa_11188", "sa_11189"]


def test_sa1b_pairs_at_any_depth(folder, tmp_path):
    for file in folder.iterdir():
        target = tmp_path / file.suffix[1:] / "deep" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    assert same(SA1B(str(tmp_path))[2], SA1B(str(folder))[2])


def test_sa1b_same_image_twice_is_read_once(folder, tars, tmp_path):
    for file in [*folder.iterdir(), *tars.glob("*.tar")]:
        shutil.copy(file, tmp_path)
    (tmp_path / "sa_10.json").write_text("")
    source = SA1B(str(tmp_path))
    assert len(source) == 7 and same(source[1], SA1B(str(folder))[1])  # from the tar
    with pytest.raises(UserError, match="tars and unpacked files"):
        SA1B(str(tmp_path), fraction=0.5)


def test_sa1b_fraction_offset_limit(folder, tars):
    assert len(SA1B(str(tars), fraction=0.5)) == 4  # the first of two tars
    assert len(SA1B(str(tars), fraction=0.01)) == 4  # never less than one
    assert SA1B(str(folder), fraction=0.5).names == ["sa_9", "sa_10"]
    assert SA1B(str(tars), offset=3, limit=2).names == ["sa_12", "sa_11187"]
    with pytest.raises(UserError, match="offset 9 leaves nothing of the 7"):
        SA1B(str(tars), offset=9)
    for wrong in ({"fraction": 0}, {"fraction": 1.5}, {"limit": 0}, {"offset": -1}):
        with pytest.raises(UserError, match="must lie in"):
            SA1B(str(tars), **wrong)


@pytest.mark.parametrize("content", [None, "empty", "other"])
def test_sa1b_missing_says_what_and_where_from(tmp_path, content):
    root = tmp_path / "sa1b"
    if content:
        root.mkdir()
    if content == "other":
        (root / "cat.jpg").write_bytes(b"")
        (root / "sa_1.jpg").write_bytes(b"")
    with pytest.raises(UserError) as error:
        SA1B(str(root))
    text = str(error.value)
    assert str(root) in text and "SA-1B research licence" in text and "ai.meta.com" in text
    assert "11 GB" in text and "sa_000000.tar" in text and "sa_*.json" in text


def damaged(folder: Path, tmp_path: Path, packed: bool, change) -> SA1B:
    """A copy of `folder` in which `change` has rewritten the second pair, as files or as a tar."""
    files = tmp_path / "files"
    shutil.copytree(folder, files)
    change(files / "sa_10.jpg", files / "sa_10.json")
    if not packed:
        return SA1B(str(files))
    (tmp_path / "tars").mkdir()
    pack_sa1b(files, tmp_path / "tars/sa_000000.tar")
    return SA1B(str(tmp_path / "tars"))


def edited(edit):
    def change(_, path):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


def counts(value):
    return edited(lambda content: content["annotations"][2]["segmentation"].update(counts=value))


BROKEN = {
    "truncated jpeg": (lambda jpg, _: jpg.write_bytes(jpg.read_bytes()[:500]), "jpg", "cannot be decoded"),
    "empty jpeg": (lambda jpg, _: jpg.write_bytes(b""), "jpg", "empty"),
    "no jpeg": (lambda jpg, _: jpg.unlink(), "jpg", "missing"),
    "no json": (lambda _, path: path.unlink(), "json", "missing"),
    "truncated json": (lambda _, path: path.write_bytes(path.read_bytes()[:200]), "json", "not SA-1B's format"),
    "binary json": (lambda _, path: path.write_bytes(b"\xff\xfe\x00"), "json", "not SA-1B's format"),
    "a list": (lambda _, path: path.write_text("[1]"), "json", "not SA-1B's format"),
    "no annotations": (edited(lambda c: c.pop("annotations")), "json", "annotations: Field required"),
    "no segmentation": (
        edited(lambda c: c["annotations"][0].pop("segmentation")),
        "json",
        r"annotations\[0\].segmentation: Field required",
    ),
    "no counts": (
        edited(lambda c: c["annotations"][0]["segmentation"].pop("counts")),
        "json",
        "counts: Field required",
    ),
    "other size": (edited(lambda c: c["annotations"][0]["segmentation"].update(size=[9, 9])), "json", r"\[9, 9\]"),
    "no runs": (counts(""), "json", "broken RLE"),
    "a list of runs": (counts([2400]), "json", "counts: Input should be a valid string"),
    "too short": (counts("5"), "json", "cover 5 of 2400"),
    "too long": (counts("oooooo1"), "json", "broken RLE"),
    "cut off": (counts("5o"), "json", "cut off"),
    "foreign letters": (counts("5é"), "json", "not SA-1B's format"),
    "negative run": (counts("5N"), "json", "broken RLE"),
    "huge number": (counts("oooooooooooo1"), "json", "32 bits"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["files", "tar"])
@pytest.mark.parametrize("case", BROKEN)
def test_sa1b_broken_pair_is_unreadable(folder, tmp_path, case, packed):
    change, kind, said = BROKEN[case]
    source = damaged(folder, tmp_path, packed, change)
    with pytest.raises(UnreadableSample, match=said) as error:
        source[1]
    assert f"sa_10.{kind}" in error.value.path
    assert source[0].name == "sa_9" and source[2].name == "sa_11"  # the others are not affected


def test_random_counts_never_crash():
    rng = np.random.default_rng(0)
    decoded = 0
    for _ in range(5000):
        text = bytes(rng.integers(48, 112, rng.integers(1, 6), dtype=np.uint8)).decode()
        try:
            EncodedMasks([{"size": [5, 4], "counts": text}], (5, 4))[0]
            decoded += 1
        except ValueError:
            continue
    assert decoded < 1000


def test_tar_index_is_cached_and_renewed(tmp_path, monkeypatch):
    tar = make_sa1b(tmp_path, images=2, resolution=(8, 8))
    first = SA1B(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir() if file != tar] == ["sa_000000.tar.index.npz"]

    scanned = []
    scan = archives._scan
    monkeypatch.setattr(archives, "_scan", lambda path: scanned.append(path) or scan(path))
    assert same(SA1B(str(tmp_path))[1], first[1]) and not scanned  # from the cache

    cache = tmp_path / "sa_000000.tar.index.npz"
    cache.write_bytes(cache.read_bytes()[:100])
    assert len(SA1B(str(tmp_path))) == 2 and len(scanned) == 1  # a damaged cache

    make_sa1b(tmp_path, images=3, resolution=(8, 8))
    assert len(SA1B(str(tmp_path))) == 3 and len(scanned) == 2  # another tar


def test_tar_in_a_read_only_folder_is_indexed_in_memory(tmp_path, monkeypatch):
    make_sa1b(tmp_path, images=2, resolution=(8, 8))

    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(archives, "write_atomic", refuse)
    assert len(SA1B(str(tmp_path))) == 2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncated", "compressed", "empty"])
def test_broken_tar_is_named(tmp_path, damage):
    tar = make_sa1b(tmp_path, images=2, resolution=(64, 64))
    content = tar.read_bytes()
    tar.write_bytes({"truncated": content[:3000], "compressed": b"\x1f\x8b" + content, "empty": b""}[damage])
    with pytest.raises(UserError, match="download it again|Download it again") as error:
        SA1B(str(tmp_path))
    assert str(tar) in str(error.value)


def header_of(content: bytes, number: int) -> int:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getmembers()[number].offset


@pytest.mark.parametrize("damage", ["bit", "zeros", "cut", "cut at a member", "no end", "joined", "negative size"])
def test_a_damaged_tar_never_loses_samples_in_silence(tmp_path, damage):
    tar = make_sa1b(tmp_path, images=3, resolution=(64, 64))
    content = bytearray(tar.read_bytes())
    third = header_of(content, 2)
    if damage == "bit":
        content[third + 5] ^= 4
    elif damage == "zeros":  # as the end of an archive looks
        content[third : third + 512] = bytes(512)
    elif damage == "cut":
        del content[third + 100 :]
    elif damage == "cut at a member":
        del content[third:]
    elif damage == "no end":
        content = content.rstrip(b"\0") + bytes(-len(content.rstrip(b"\0")) % 512)
    elif damage == "joined":
        content = content + bytes(content)
    else:
        content[third + 124 : third + 136] = b"\xff" * 12
        content[third + 148 : third + 156] = b" " * 8
        content[third + 148 : third + 156] = b"%06o\0 " % sum(content[third : third + 512])
    tar.write_bytes(content)
    with pytest.raises(UserError, match="download it again") as error:
        SA1B(str(tmp_path))
    assert str(tar) in str(error.value)


def test_content_that_a_header_calls_a_name_is_told(tmp_path, caplog):
    tar = make_sa1b(tmp_path, images=2, resolution=(8, 8))
    content = bytearray(tar.read_bytes())
    content[156:157] = b"L"  # the first picture is the name of what follows it
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    tar.write_bytes(content)
    assert SA1B(str(tmp_path)).names == ["sa_2"] and "1 files have names of odd characters" in caplog.text


def test_an_index_of_before_is_made_anew(tmp_path):
    tar = make_sa1b(tmp_path, images=2, resolution=(8, 8))
    status = tar.stat()
    stamp = np.array([status.st_size, status.st_mtime_ns])
    np.savez(
        tar.with_name("sa_000000.tar.index.npz"),
        stamp=stamp,
        names=np.array([b"sa_1.jpg", b"sa_1.json"]),
        offsets=np.array([512, 512]),
        sizes=np.array([1, 1]),
    )
    assert len(SA1B(str(tmp_path))) == 2 and len(SA1B(str(tar))) == 2


def test_names_of_any_bytes_and_any_number_are_read(tmp_path):
    make_sa1b(tmp_path, images=1, resolution=(8, 8), tar=False)
    for name in (b"sa_caf\xe9", b"sa_" + b"9" * 200):
        for kind in ("jpg", "json"):
            shutil.copy(tmp_path / f"sa_1.{kind}", os.fsencode(tmp_path) + b"/" + name + f".{kind}".encode())
    source = SA1B(str(tmp_path))
    assert len(source) == 3 and all(same_masks(source[k], source[0]) for k in range(3))


def same_masks(left, right) -> bool:
    return np.array_equal(left.masks, right.masks)


def test_deep_json_is_an_unreadable_sample(tmp_path):
    make_sa1b(tmp_path, images=2, resolution=(8, 8), tar=False)
    (tmp_path / "sa_1.json").write_text('{"annotations": ' + "[" * 200_000)
    with pytest.raises(UnreadableSample, match="sa_1.json: .*recursion limit"):
        SA1B(str(tmp_path))[0]


def test_captions_and_pictures_that_stand_alone_are_told(tmp_path, caplog):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.jpg", "a.txt", "b.jpg", "c.txt"):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("d.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        tar.addfile(link)
    assert len(CaptionedTars(str(tmp_path))) == 1
    assert "2 samples lack their .jpg or .txt and are left out, b first" in caplog.text
    assert "1 members are no regular files and left out, d.jpg first" in caplog.text


def test_tar_that_shrinks_later_is_unreadable(tmp_path):
    tar = make_sa1b(tmp_path, images=2, resolution=(64, 64))
    source = SA1B(str(tmp_path))
    os.truncate(tar, 2000)
    with pytest.raises(UnreadableSample, match="the tar ends after"):
        source[1]


def test_members_that_point_elsewhere_are_not_followed(tmp_path):
    make_sa1b(tmp_path / "a", images=1, resolution=(8, 8), tar=False)
    with tarfile.open(tmp_path / "sa_000000.tar", "w") as tar:
        for file in (tmp_path / "a").iterdir():
            tar.add(file, f"../../{file.name}")
        link = tarfile.TarInfo("sa_2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    shutil.rmtree(tmp_path / "a")
    assert SA1B(str(tmp_path)).names == ["sa_1"]
    assert not (tmp_path.parent.parent / "sa_1.jpg").exists()


def first(items):
    return items[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(tars, method):
    source = SA1B(str(tars))
    source[0]
    loader = DataLoader(
        source,
        batch_size=1,
        num_workers=2,
        collate_fn=first,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    assert all(same(scene, source[index]) for index, scene in enumerate(loader))
    assert len(pickle.dumps(source)) < 5000


def test_stand_in_is_deterministic(tmp_path):
    one = make_sa1b(tmp_path / "one", images=2, resolution=(16, 24))
    two = make_sa1b(tmp_path / "two", images=2, resolution=(16, 24))
    assert one.name == "sa_000000.tar" and one.read_bytes() == two.read_bytes()
    assert make_sa1b(tmp_path, images=1, resolution=(16, 24), first=111861).name == "sa_000010.tar"


def test_interrupted_write_leaves_no_half_file(tmp_path, monkeypatch):
    make_sa1b(tmp_path, images=1, resolution=(8, 8), tar=False)
    before = (tmp_path / "sa_1.json").read_bytes()

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_sa1b(tmp_path, "sa_1", np.zeros((9, 9, 3), np.uint8), np.zeros((0, 9, 9), bool))
    assert (tmp_path / "sa_1.json").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sa_1.jpg", "sa_1.json"]


def test_sa1b_without_masks_is_the_same_images(tmp_path):
    make_sa1b(tmp_path, images=2)
    whole, images = SA1B(str(tmp_path)), SA1B(str(tmp_path), masks=False)
    for index in range(2):
        assert np.array_equal(whole[index].image, images[index].image) and whole[index].name == images[index].name
        assert images[index].masks.shape == (0, 96, 144) and len(whole[index].masks) == 6
