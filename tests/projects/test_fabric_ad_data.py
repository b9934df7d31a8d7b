"""Readers of cloth: the data sets' layouts, splits with nothing in common, masks; drawn cloth and painted faults."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from projects.fabric_ad import sources
from projects.fabric_ad.data import Cloths, FabricData, square_mask
from projects.fabric_ad.defects import FAULTS, spoil
from projects.fabric_ad.sources import Aitex, MVTec, Photographs, Tilda
from projects.fabric_ad.weaves import FABRICS, FAMILIES, TextureFamilies, fabric, texture

TEXTILE = Path(os.environ.get("DATA_ROOT", Path(__file__).parents[2] / "../shared/data")) / "textile"


def save(file, image):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def grey(value, height=40, width=40):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def mvtec(tmp_path):
    for k in range(10):
        save(tmp_path / f"wood/train/good/{k:03d}.png", grey(k))
    save(tmp_path / "wood/test/good/000.png", grey(100))
    save(tmp_path / "wood/test/hole/000.png", grey(200))
    save(tmp_path / "wood/test/other/000.png", grey(201))
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = 255
    save(tmp_path / "wood/ground_truth/hole/000_mask.png", mask)
    (tmp_path / "wood/test/.DS_Store").write_bytes(b"")
    return MVTec(str(tmp_path))


def test_mvtec_layout(mvtec):
    train, val = mvtec.samples("wood", "train"), mvtec.samples("wood", "val")
    assert len(train) == 7 and len(val) == 3 and not {s.file for s in train} & {s.file for s in val}
    good, hole, other = (mvtec.read(s) for s in mvtec.samples("wood", "test"))
    assert not good.defective and good.mask is not None and not good.mask.any()
    assert hole.defective and hole.mask.sum() == 200 and hole.mask[10, 10]
    assert other.defective and other.mask is None  # the Industrial Textile Dataset has no masks
    with pytest.raises(UserError, match="train/good"):
        mvtec.samples("carpet", "train")


def test_aitex_layout(tmp_path):
    for k in range(10):
        strip = grey(100 + k, 40, 200)
        strip[:, 160:] = 255  # white padding
        save(tmp_path / f"NODefect_images/2306881-210020u/{k:04d}_000_03.png", strip)
        save(tmp_path / f"NODefect_images/2306894-210033u/{k:04d}_000_04.png", strip)
    for name in ("0001_002_03", "0002_002_03"):  # the second has no mask: its squares are neither good nor bad
        save(tmp_path / f"Defect_images/{name}.png", grey(90, 40, 200))
    for number, place in (("1", 5), ("2", 85)):
        mask = np.zeros((40, 210), np.uint8)  # wider than its strip
        mask[:3, place : place + 3] = 255
        save(tmp_path / f"Mask_images/0001_002_03_mask{number}.png", mask)
    source = Aitex(str(tmp_path))
    train, val, test = (source.samples("03", split) for split in ("train", "val", "test"))
    assert len(train) + len(val) == 7 * 4 and len(test) == 3 * 4 + 5
    assert not {s.file for s in train + val} & {s.file for s in test}
    found = [source.read(s) for s in test[-5:]]
    assert [c.defective for c in found] == [True, False, True, False, False]
    assert [int(c.mask.sum()) for c in found] == [9, 0, 9, 0, 0] and found[0].image.shape == (40, 40, 3)
    with pytest.raises(UserError, match="no strip of fabric 09"):
        source.samples("09", "test")


def test_tilda_layout(tmp_path):
    for e, n in product(range(8), range(1, 11)):
        save(tmp_path / f"disk/C1R3E{e}N{n}.TIF", grey(10 * e + n))
    source = Tilda(str(tmp_path))
    train, val, test = (source.samples("c1r3", split) for split in ("train", "val", "test"))
    assert len(train) + len(val) == 7 and len(test) == 3 + 40 and sum(s.defective for s in test) == 40
    assert source.read(test[-1]).mask is None and test[2].file.name == "C1R3E0N10.TIF"
    with pytest.raises(UserError, match="TILDA"):
        source.samples("c4r1", "train")


def boxes(samples):
    marked = {}
    for sample in samples:
        x0, y0, x1, y1 = sample.box
        marked.setdefault(sample.file, np.zeros((256, 256), bool))[y0:y1, x0:x1] = True
    return marked


def test_splits_of_photographs_share_no_pixel_and_no_fault_is_trained_on(tmp_path):
    for name in sources.FAULTS:
        save(tmp_path / f"{name}.png", grey(7, 256, 256))
    source = Photographs(str(tmp_path))
    train, val, test = (source.samples("all", split) for split in ("train", "val", "test"))
    good, bad = ([s for s in test if s.defective is kind] for kind in (False, True))
    assert len(train) > 300 and len(val) > 10 and len(good) > 80 and len(bad) > 40
    for one, other in ((train, val), (train, good), (val, good)):
        there = boxes(other)
        assert not any((mask & there[file]).any() for file, mask in boxes(one).items() if file in there)
    for sample in train + val + good:
        piece = source.read(sample)
        assert not piece.defective and not piece.mask.any()
        assert all(sources._share(sample.box, fault) == 0 for fault in sources.FAULTS[sample.file.stem])
    assert all(source.read(s).mask.any() for s in bad)
    assert {s.file.stem for s in bad} == set(sources.FAULTS)
    with pytest.raises(UserError, match="no photograph type1"):
        source.samples("type1", "train")


@pytest.mark.skipif(not TEXTILE.is_dir(), reason=f"no photographs at {TEXTILE}")
def test_real_photographs_are_read():
    source = Photographs(str(TEXTILE))
    piece = source.read(source.samples("type2cam2", "test")[-1])
    assert piece.image.shape == (64, 64, 3) and 5 < piece.image.std() < 100


def test_drawn_cloth_is_the_same_each_time_and_differs_from_piece_to_piece():
    for name in FABRICS:
        one, same, other = (fabric(name, np.random.default_rng(seed), 64) for seed in (0, 0, 1))
        assert np.array_equal(one, same) and not np.array_equal(one, other) and one.std() > 10
    assert not set(FABRICS) & {name.split()[1] for name in FAMILIES}
    parts = [TextureFamilies(split, 48, 32) for split in ("train", "val", "test")]
    assert parts[0][30].label == 6 and not np.array_equal(parts[0][30].image, parts[1][30].image)
    assert all(texture(name, np.random.default_rng(0), 32).std() > 2 for name in FAMILIES)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("shape", [(128, 128), (70, 131)])
def test_a_painted_fault_lies_in_its_mask(fault, shape):
    for seed in range(6):
        image = fabric("twill", np.random.default_rng(seed), 131)[: shape[0], : shape[1]]
        spoilt, mask = spoil(image, fault, np.random.default_rng(seed))
        assert spoilt.shape == image.shape and spoilt.dtype == np.uint8 and 0 < mask.mean() < 0.2
        change = np.abs(spoilt.astype(float) - image).mean(-1)
        assert change[mask].mean() > max(4, 10 * change[~mask].mean())
        gentle, same = spoil(image, fault, np.random.default_rng(seed), 0.2)
        assert np.array_equal(same, mask) and np.abs(gentle.astype(float) - image).sum() < change.sum() * 3


def test_batches_of_tests_and_of_validation(mvtec):
    data = FabricData(mvtec, ["wood"], image_size=32, eval_batch_size=2)
    test, painted = (list(loader) for loader in data.test_dataloader())
    assert torch.cat([b["defective"] for b in test]).tolist() == [False, True, True]
    assert torch.cat([b["masked"] for b in test]).tolist() == [True, True, False]
    assert torch.cat([b["defective"] for b in painted]).tolist() == [False, True] * 3
    assert all(batch["mask"][1].any() and not batch["mask"][0].any() for batch in painted)
    assert {len(b["image"]) for b in data.val_dataloader()} == {1, 2}
    again = list(data.test_dataloader()[1])
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(painted, again, strict=True))
    with pytest.raises(UserError, match="categories is empty"):
        FabricData(mvtec, [])


def test_pictures_and_masks_are_cropped_alike(mvtec):
    mask = np.zeros((60, 90), bool)
    mask[29, 44] = True
    small = square_mask(mask, 30)
    assert small.shape == (30, 30) and small.sum() == 1 and small[14, 15]
    cloth = Cloths(mvtec, mvtec.samples("wood", "test"), 20)[1]
    assert cloth["mask"].sum() == 50 and cloth["image"].shape == (3, 20, 20) and float(cloth["image"].max()) <= 1
