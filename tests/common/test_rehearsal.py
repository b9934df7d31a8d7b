"""The stand-in hub and the stand-in data sets: found under the real ids and formats, the same in every run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import numpy as np
import pytest
from pycocotools.coco import COCO
from torchvision.datasets import CocoCaptions, ImageFolder

from common.data.readers.coco_panoptic import CocoPanoptic
from common.errors import UserError
from common.rehearsal.datasets import (
    make_coco,
    make_image_folder,
    make_image_parquet,
    make_sentences,
    make_webdataset,
    write_jsonl,
    write_parquet,
)
from common.rehearsal.hub import HUB, write_hub
from common.rehearsal.image_hubs import write_open_clip, write_timm


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_from_pretrained_finds_the_stand_ins():
    checks = Path(__file__).with_name("hub_checks.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--noconftest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(checks),
    ]
    with TemporaryDirectory() as home:  # not tmp_path: pytest keeps those, and this one is large
        environment = {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_the_same_ids_give_the_same_files(tmp_path):
    ids = [
        "bert-base-uncased",
        "roberta-base",
        "google-t5/t5-base",
        "openai/clip-vit-base-patch32",
        "facebook/wav2vec2-base",
        "runwayml/stable-diffusion-v1-5",
    ]
    for run in ("first", "second"):
        write_hub(tmp_path / run, ids)
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_unknown_id_says_how_to_add_it(tmp_path):
    with pytest.raises(UserError) as error:
        write_hub(tmp_path / "hub", ["bert-base-uncased", "openai/clip-vit-base-patch33"])
    text = str(error.value)
    assert "'openai/clip-vit-base-patch33'" in text and "openai/clip-vit-base-patch32" in text
    assert "HUB" in text and "common/rehearsal/hub.py" in text and Path("common/rehearsal/hub.py").exists()
    assert not (tmp_path / "hub").exists()


def test_ids_of_the_hub_are_ids():
    assert [i for i in HUB if i.count("/") > 1 or i != i.strip()] == []


def test_unknown_names_of_timm_and_open_clip(tmp_path):
    with pytest.raises(UserError, match="unknown timm model 'vit_tinny_patch16_224'.*vit_tiny_patch16_224"):
        write_timm(tmp_path, "vit_tinny_patch16_224")
    with pytest.raises(UserError, match="augreg_in21k"):
        write_timm(tmp_path, "vit_tiny_patch16_224.augreg_in21")
    with pytest.raises(UserError, match="unknown open_clip model 'ViT-B-33'.*ViT-B-32"):
        write_open_clip(tmp_path, "ViT-B-33", "openai")
    with pytest.raises(UserError, match="weights of open_clip's ViT-B-32 'laion2b'.*laion2b_e16"):
        write_open_clip(tmp_path, "ViT-B-32", "laion2b")
    with pytest.raises(UserError, match="no narrow stand-in"):
        write_open_clip(tmp_path, "ViT-B-16-SigLIP", "webli", narrow=True)
    assert list(tmp_path.iterdir()) == []


# Data sets


def test_coco_is_read_by_the_panoptic_reader_and_by_pycocotools(tmp_path):
    make_coco(tmp_path, "val", images=3)
    scenes = CocoPanoptic(str(tmp_path), "val", min_area=0)
    assert len(scenes) == 3
    for scene in (scenes[i] for i in range(3)):
        assert scene.image.shape == (96, 144, 3) and scene.masks.sum(0).min() == scene.masks.sum(0).max() == 1
    instances = COCO(tmp_path / "annotations/instances_val2017.json")
    named = {category["id"]: category["name"] for category in instances.loadCats(instances.getCatIds())}
    assert "sky-other-merged" not in named.values()
    entries = instances.loadAnns(instances.getAnnIds(imgIds=[2]))
    assert len(entries) >= 3 and max(entry["area"] for entry in entries) > 400
    for entry in entries:
        mask = scenes[1].masks[scenes[1].categories.index(named[entry["category_id"]])]
        assert mask.sum() == entry["area"]
        drawn = instances.annToMask(entry).astype(bool)
        if entry["area"] > 400:  # the polygon runs through the middle of the border's pixels, and covers holes
            assert (drawn & mask).sum() / (drawn | mask).sum() > 0.8
        x, y, width, height = entry["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum()


def test_coco_captions_are_read_by_torchvision(tmp_path):
    make_coco(tmp_path, "train", images=2)
    captions = CocoCaptions(tmp_path / "train2017", str(tmp_path / "annotations/captions_train2017.json"))
    image, sentences = captions[1]
    assert image.size == (144, 96) and sentences == make_sentences(5, first=10)


def test_image_folder_is_read_by_torchvision(tmp_path):
    make_image_folder(tmp_path, ["n01440764", "n01443537"], images=3, resolution=(20, 30))
    found = ImageFolder(tmp_path)
    assert found.classes == ["n01440764", "n01443537"] and found.targets == [0, 0, 0, 1, 1, 1]
    pictures = [np.array(image) for image, _ in found]
    assert pictures[0].shape == (20, 30, 3)
    assert all((pictures[0] != other).any() for other in pictures[1:])


def test_webdataset_is_read_by_datasets(tmp_path):
    make_webdataset(tmp_path / "00000.tar", samples=3)
    rows = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "00000.tar"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [row["__key__"] for row in rows] == ["000000000", "000000001", "000000002"]
    assert [row["txt"] for row in rows] == [row["json"]["caption"] for row in rows] == make_sentences(3)
    assert rows[0]["jpg"].size == (144, 96)


def test_image_parquet_is_read_by_datasets(tmp_path):
    make_image_parquet(tmp_path / "data/train.parquet", ["cat", "dog"], images=3)
    rows = _parquet(tmp_path / "data/train.parquet")
    assert rows.features["label"].names == ["cat", "dog"] and rows["label"][:] == [0, 1, 0]
    assert rows[2]["image"].size == (144, 96)


def test_text_is_read_by_datasets(tmp_path):
    rows = [{"sentence": sentence, "label": i % 2} for i, sentence in enumerate(make_sentences(4))]
    rows[3]["sentence"] = "naïve “Ω”"
    write_parquet(tmp_path / "cola.parquet", rows)
    write_jsonl(tmp_path / "cola.jsonl", rows)
    assert _parquet(tmp_path / "cola.parquet").to_list() == rows
    assert [json.loads(line) for line in (tmp_path / "cola.jsonl").read_text("utf-8").splitlines()] == rows


def test_data_sets_are_the_same_in_every_run(tmp_path):
    for run in ("first", "second"):
        make_coco(tmp_path / run, "val", images=2)
        make_image_folder(tmp_path / run / "folder", ["a", "b"], images=1)
        make_webdataset(tmp_path / run / "shard.tar", samples=2)
        make_image_parquet(tmp_path / run / "images.parquet", ["a", "b"], images=2)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def _parquet(path: Path) -> datasets.Dataset:
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))
