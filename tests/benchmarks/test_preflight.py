"""What a run lacks is said at once, before anything is written."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks import reproduce
from benchmarks.running import preflight, recipes
from benchmarks.running.recipes import Request, load
from common.errors import UserError
from common.rehearsal.sa1b import make_sa1b

GB = 10**9


@pytest.fixture
def request_(tmp_path, monkeypatch) -> Request:
    """A paper-scale request on a machine where nothing is missing but what a test takes away; weights are 2 GB."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("WEIGHTS_ROOT", str(tmp_path / "weights"))
    for folder in ("data/sa1b/train", "data/sa1b/test", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    for part, first in (("train", 1), ("test", 111861)):
        make_sa1b(tmp_path / "data/sa1b" / part, images=2, resolution=(8, 12), first=first)
    for download in load("mobilesam").downloads:
        if download.path.startswith("$WEIGHTS_ROOT/"):
            sparse(tmp_path / "weights" / download.path.split("/", 1)[1], download.gigabytes or 0.0)
    monkeypatch.setattr(preflight, "gpus", lambda: 1)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=300 * GB))
    return Request("mobilesam", "paper", runs=tmp_path / "runs")


def weights(root: Path) -> Path:
    return root / "weights/sam_vit_h_4b8939.pth"


def sparse(path: Path, gigabytes: float) -> None:
    """A file of that size that takes no space."""
    path.touch()
    os.truncate(path, int(gigabytes * GB))


def lacks(request: Request) -> str:
    with pytest.raises(UserError) as error:
        preflight.preflight(load("mobilesam"), request)
    return str(error.value)


def test_where_nothing_is_missing_nothing_is_said(request_):
    preflight.preflight(load("mobilesam"), request_)


def test_everything_missing_is_said_at_once_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    for variable in ("DATA_ROOT", "WEIGHTS_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=7 * GB))
    assert reproduce.main(["mobilesam", "--scale", "paper", "--runs", str(tmp_path / "runs")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    for said in (
        "$WEIGHTS_ROOT/sam_vit_h_4b8939.pth, but WEIGHTS_ROOT is not set", "2.56 GB, Apache-2.0",
        "$DATA_ROOT/sa1b/train, but DATA_ROOT is not set", "110 GB, SA-1B research licence",
        "$DATA_ROOT/sa1b/test, but DATA_ROOT is not set", "expected: sa_000000.tar ... sa_000009.tar",
        "no NVIDIA GPU", "SCALE=rehearsal", f"250 GB needed under {tmp_path}, 7 GB free", "RUNS=<folder>",
        "make reproduce PAPER=mobilesam SCALE=paper WEIGHTS_ROOT=<folder> DATA_ROOT=<folder>",
    ):  # fmt: skip
        assert said in output.err
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_missing(request_, tmp_path):
    weights(tmp_path).unlink()
    said = lacks(request_)
    assert f"looked at: {weights(tmp_path)}, which does not exist" in said and "facebookresearch" in said
    assert "sa1b" not in said and "GPU" not in said and "disk" not in said  # what is there is not listed
    assert f"WEIGHTS_ROOT={tmp_path / 'weights'}" in said


def test_a_download_that_was_cut_off(request_, tmp_path):
    sparse(weights(tmp_path), 1.2)
    assert f"{weights(tmp_path)}, which has 1.20 GB: download it again" in lacks(request_)


@pytest.mark.parametrize("part", ["train", "test"])
def test_data_that_is_missing_or_empty(part, request_, tmp_path):
    folder = tmp_path / "data/sa1b" / part
    next(folder.iterdir()).unlink()
    said = lacks(request_)
    assert f"{folder}, which is empty" in said and "SA-1B research licence" in said and "ai.meta.com" in said
    assert "sam_vit_h" not in said and said.count("looked at") == 1
    folder.rmdir()
    assert f"{folder}, which does not exist" in lacks(request_)


def test_no_gpu(request_, monkeypatch):
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    assert "no NVIDIA GPU" in lacks(request_)
    on_cpu = replace(load("mobilesam"), paper_on_cpu=True)
    monkeypatch.setattr(recipes, "load", lambda paper: on_cpu)
    preflight.preflight(on_cpu, request_)


def test_too_little_disk_counts_what_an_interrupted_run_has_written(request_, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=60 * GB))
    assert "disk: 250 GB needed" in lacks(request_)
    stored = request_.runs / "mobilesam/paper/embed-0/seed0/embeddings"
    stored.mkdir(parents=True)
    sparse(stored / "shard.bin", 180)
    assert "disk: 70 GB needed" in lacks(request_)
    sparse(stored / "shard.bin", 200)
    preflight.preflight(load("mobilesam"), request_)


def test_another_data_set_at_mini_scale_needs_only_itself(request_, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    coco = replace(request_, scale="mini", data="coco")
    write_coco(tmp_path / "data")
    preflight.preflight(load("mobilesam"), coco)
    monkeypatch.setenv("DATA_ROOT", "")
    said = lacks(coco)
    assert "$DATA_ROOT, but DATA_ROOT is not set" in said and "CC BY 4.0" in said and "GPU" not in said
    assert "make reproduce PAPER=mobilesam SCALE=mini DATA=coco DATA_ROOT=<folder>" in said


def write_coco(root: Path) -> None:
    """As many photographs of one segment as the configs ask for."""
    for split, count in (("train", 86), ("val", 2)):
        images, pngs = root / f"{split}2017", root / f"annotations/panoptic_{split}2017"
        images.mkdir(parents=True)
        pngs.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (6, 4)).save(images / f"{number}.jpg")
            Image.new("RGB", (6, 4), (1, 0, 0)).save(pngs / f"{number}.png")
        content = {
            "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(count)],
            "annotations": [
                {"image_id": k, "file_name": f"{k}.png", "segments_info": [{"id": 1, "category_id": 1}]}
                for k in range(count)
            ],
            "categories": [{"id": 1, "name": "wall"}],
        }
        pngs.with_suffix(".json").write_text(json.dumps(content))


@pytest.mark.parametrize("wrong", ["layout", "schema", "png", "selection"])
def test_data_are_tried_before_anything_is_trained(request_, tmp_path, capsys, wrong):
    """DATA=coco with another layout or damaged files ends here, not minutes later in a foundation's training."""
    root = tmp_path / "data"
    write_coco(root)
    index = root / "annotations/panoptic_val2017.json"
    if wrong == "layout":
        (root / "val2017").rename(root / "validation")
        said = f"no {root}/images/val2017 and no {root}/val2017 for COCO 2017"
    elif wrong == "schema":
        index.write_text(index.read_text().replace('"segments_info"', '"segments"'))
        said = f"{index} is not as expected: annotations[0]"
    elif wrong == "png":
        Image.new("RGB", (6, 4), (2, 0, 0)).save(root / "annotations/panoptic_val2017/0.png")
        said = "does not belong to its JSON: ids in the PNG alone: 2; in the JSON alone: 1"
    else:
        for file in (root / "train2017").glob("[1-9].jpg"):
            file.unlink()
        said = "COCO: offset 85, limit None leave nothing"
    command = ["mobilesam", "--data", "coco", "--data-root", str(root), "--runs", str(tmp_path / "runs")]
    before = time.process_time()
    assert reproduce.main(command) == 2
    assert said in capsys.readouterr().err and not list((tmp_path / "runs").glob("*/*/*/seed*"))
    assert time.process_time() - before < 5


def test_data_that_arguments_change_are_left_to_the_stages(request_, tmp_path):
    (tmp_path / "data/sa1b/train/sa_000000.tar").write_bytes(b"")
    assert "sa_000000.tar is" in lacks(request_)
    preflight.preflight(load("mobilesam"), replace(request_, args=("--data.train.init_args.limit", "3")))


def test_stages_are_done_for_this_data_whatever_else_is_beside_it(request_, tmp_path):
    """An index that a reader writes, or another paper's data, must not make a finished stage run again."""

    def fingerprint() -> str:
        return recipes.jobs(request_)["decoupled"][0][0].fingerprint

    before = fingerprint()
    (tmp_path / "data/sa1b/train/sa_000000.tar.index.npz").write_text("index")
    (tmp_path / "data/another.tar").write_text("another paper's")
    assert fingerprint() == before
    (tmp_path / "data/sa1b/train/sa_000001.tar").write_text("more images")
    assert fingerprint() != before


@pytest.mark.parametrize(("paper", "data"), [(paper, data) for paper in recipes.names() for data in load(paper).data])
def test_the_sources_of_every_other_data_set_can_be_looked_at(paper, data, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    stages = recipes.walk([stage for arm in load(paper).arms_for("mini", data).values() for stage in arm.stages])
    found = [preflight._settings(stage, Request(paper, data=data)) for stage in stages]
    assert all(isinstance(part, dict) for config in found for part in (config.get("model", {}), config.get("data", {})))
