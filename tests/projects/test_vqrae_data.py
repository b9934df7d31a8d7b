"""What VQRAE reads: the world of small pictures, the hub's parquet, ImageNet's folders, tars of captioned images."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.images import Pictures, square, to_uint8
from common.data.readers.captioned_tars import CaptionedTars
from common.data.readers.image_parquet import ImageParquet, write_image_parquet
from common.data.readers.imagenet import ImageNet
from common.data.worlds.shape_crops import ShapeCrops, colour_of
from common.data.worlds.shape_layout import CLASSES, COLOURS
from common.errors import UserError
from common.rehearsal.datasets import make_image_folder, make_image_parquet, make_webdataset

DATA = Path(os.environ.get("DATA_ROOT", "../shared/data"))


def test_world_pictures_follow_from_split_and_index():
    world, longer = ShapeCrops("train", 8), ShapeCrops("train", 20)
    for k in (3, 7):
        a, b = world[k], longer[k]
        assert np.array_equal(a.image, b.image) and (a.label, a.caption) == (b.label, b.caption)
    assert not np.array_equal(world[3].image, ShapeCrops("val", 8)[3].image)
    assert world[0].image.shape == (32, 32, 3) and world[0].image.dtype == np.uint8


def test_world_captions_name_label_and_colour():
    world = ShapeCrops("test", 60)
    pictures = [world[k] for k in range(60)]
    for picture in pictures:
        words = picture.caption.split()
        assert words[-1] == CLASSES[picture.label] and words[1] == list(COLOURS)[colour_of(picture.caption)]
        assert words[0] == ("an" if words[1] == "orange" else "a")
    assert len({picture.label for picture in pictures}) == len(CLASSES)


def test_plain_pictures_have_no_textures():
    world = ShapeCrops("val", 40, plain=True)
    captions = [world[k].caption for k in range(40)]
    assert {len(caption.split()) for caption in captions} == {3}  # "a red star"
    assert len({world[k].label for k in range(40)}) > 5


def test_square_scales_the_shorter_side_and_crops():
    image = np.tile(np.arange(48, dtype=np.uint8)[None, :, None], (16, 1, 3))
    assert np.array_equal(square(image, 16), image[:, 16:32])
    crops = [square(image, 16, np.random.default_rng(k)) for k in range(20)]
    starts = {int(crop[0, 0, 0]) for crop in crops}
    assert len(starts) > 5 and any(crop[0, 0, 0] > crop[0, 1, 0] for crop in crops)  # places, and mirrored ones
    assert square(np.zeros((30, 90, 3), np.uint8), 16).shape == (16, 16, 3)


def test_pixels_survive_the_way_to_a_tensor_and_back():
    samples = Pictures(ShapeCrops("val", 3), 32)
    batch = torch.stack([samples[k]["image"] for k in range(3)])
    assert batch.min() >= 0 and batch.max() <= 1
    assert np.array_equal(to_uint8(batch)[2], ShapeCrops("val", 3)[2].image)


def test_written_parquet_is_read_as_it_was(tmp_path):
    rows = [{"image": encoded(k), "caption": f"a {k}", "label": k % 2, "other": k % 3} for k in range(4)]
    write_image_parquet(tmp_path / "train.parquet", rows, {"label": ("x", "y"), "other": ("p", "q", "r")})
    source = ImageParquet(str(tmp_path / "train.parquet"))
    assert source.classes == ("x", "y") and len(source) == 4
    assert source[3].caption == "a 3" and source[3].label == 1 and (source[3].image == 3).all()
    assert ImageParquet(str(tmp_path / "*.parquet"), label="other", limit=3)[2].label == 2


def encoded(value: int) -> bytes:
    content = BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def test_parquet_errors(tmp_path):
    with pytest.raises(UserError, match="no parquet files"):
        ImageParquet(str(tmp_path / "*.parquet"))
    make_image_parquet(tmp_path / "a.parquet", ["x", "y"])
    with pytest.raises(UserError, match="no column 'fine'"):
        ImageParquet(str(tmp_path / "a.parquet"), label="fine")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:100])
    with pytest.raises(UserError, match="download it again"):
        ImageParquet(str(tmp_path / "b.parquet"))


def test_real_cifar10():
    files = sorted((DATA / "cifar10").rglob("*test*.parquet"))
    if not files:
        pytest.skip(f"no CIFAR-10 in {DATA}: set DATA_ROOT")
    source = ImageParquet(str(files[0]))
    assert len(source) == 10_000 and source[5].image.shape == (32, 32, 3)
    assert {source[k].label for k in range(300)} == set(range(10))


def imagenet(root: Path) -> Path:
    for split, images in (("train", 6), ("val", 2)):
        make_image_folder(root / split, ["n02", "n01"], images, resolution=(24, 32))
        for file in (root / split).glob("*/*.jpg"):
            file.rename(file.with_suffix(".JPEG"))
    return root


def test_imagenet_has_its_classes_in_order_and_holds_images_out(tmp_path):
    root = imagenet(tmp_path)
    train, tune, val = (ImageNet(str(root), split) for split in ("train", "tune", "val"))
    assert (len(train), len(tune), len(val)) == (11, 1, 4)
    assert not {train[k].name for k in range(11)} & {tune[0].name}
    assert [val[k].label for k in range(4)] == [0, 0, 1, 1] and val[0].name.startswith("n01/")
    assert len(ImageNet(str(root), "train", per_class=2)) == 4
    assert val.classes == ("n01", "n02")
    (root / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    assert ImageNet(str(root), "val").classes == ("tench, Tinca tinca", "goldfish")
    with pytest.raises(UserError, match="expected: <root>/train"):
        ImageNet(str(tmp_path / "missing"), "train")


def test_tars_of_captioned_images(tmp_path):
    for tar in range(3):
        make_webdataset(tmp_path / f"{tar:05d}.tar", samples=3, resolution=(24, 32), first=3 * tar)
    whole, part = CaptionedTars(str(tmp_path)), CaptionedTars(str(tmp_path), first=1, last=2)
    assert (len(whole), len(part)) == (9, 3)
    for k in range(3):
        assert np.array_equal(whole[3 + k].image, part[k].image) and whole[3 + k].caption == part[k].caption
    assert whole[4].caption and whole[4].label == -1 and whole[4].image.shape == (24, 32, 3)
    assert len({whole[k].caption for k in range(9)}) > 3
    with pytest.raises(UserError, match="no tars number 7"):
        CaptionedTars(str(tmp_path), first=7)


def test_a_damaged_picture_is_replaced_and_many_are_an_error(tmp_path):
    rows = [{"image": encoded(k % 256), "caption": "", "label": 0} for k in range(2000)]
    rows[5]["image"] = b"nothing"
    write_image_parquet(tmp_path / "a.parquet", rows, {"label": ("x",)})
    samples = Pictures(ImageParquet(str(tmp_path / "a.parquet")), 4)
    assert torch.equal(samples[5]["image"], samples[6]["image"])
    with pytest.raises(UserError, match="tolerated"):
        Pictures(ImageParquet(str(tmp_path / "a.parquet"), limit=6), 4)[5]
