"""The command for mills: from good pictures to a detector, from pictures to scores and maps; files from the wild."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file, save_model

from common.errors import UserError
from projects.fabric_ad.defects import spoil
from projects.fabric_ad.teacher import small_resnet
from projects.fabric_ad.tools import detector
from projects.fabric_ad.tools.mill import main, threshold_of
from projects.fabric_ad.weaves import fabric


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def mill(tmp_path_factory):
    """A folder of good cloth, of today's with a hole, and a detector trained for a moment."""
    folder = tmp_path_factory.mktemp("mill")
    torch.manual_seed(0)
    save_model(small_resnet(), str(folder / "teacher.safetensors"))
    for part in ("good", "today"):
        (folder / part).mkdir()
    for k in range(10):
        Image.fromarray(fabric("twill", np.random.default_rng(k), 96)).save(folder / f"good/{k}.png")
    holed = fabric("twill", np.random.default_rng(20), 160)
    holed[60:76, 100:116] = 255
    Image.fromarray(holed).save(folder / "today/a hole.png")
    Image.fromarray(fabric("twill", np.random.default_rng(21), 128)).convert("L").save(folder / "today/grey.tif")
    assert run("fit", folder / "good", "--out", folder / "d.safetensors", "--tile", 64, "--steps", 40, "--lr", 0.003,
               "--teacher-weights", folder / "teacher.safetensors") == 0  # fmt: skip
    return folder


def test_a_hole_is_found_where_it_is(mill, tmp_path, capsys):
    table, maps = tmp_path / "s.csv", tmp_path / "maps"
    assert run("inspect", mill / "today", "--model", mill / "d.safetensors", "--csv", table, "--maps", maps) == 0
    rows = {row["file"].split("/")[-1]: row for row in csv.DictReader(table.open())}
    hole = rows["a hole.png"]
    x, y, width, height = (int(hole[name]) for name in ("x", "y", "width", "height"))
    assert hole["faulty"] == "1" and float(hole["score"]) > float(hole["threshold"]) > 0
    assert x <= 108 <= x + width and y <= 68 <= y + height
    assert set(rows) == {"a hole.png", "grey.tif"} and 0 < float(hole["share"]) < 1
    said = capsys.readouterr().out
    assert "a hole.png: fault" in said and "of 2 pictures have faults" in said and "ms each" in said
    drawn = np.asarray(Image.open(maps / "a hole.png"))
    assert drawn.shape == (160, 160, 3) and (maps / "grey.png").is_file()


def test_a_threshold_of_ones_own_and_unreadable_pictures(mill, tmp_path, capsys):
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"no picture")
    Image.fromarray(fabric("twill", np.random.default_rng(3), 64)).save(tmp_path / "three.png")
    Image.fromarray(fabric("twill", np.random.default_rng(3), 40)).save(tmp_path / "small.png")
    table = tmp_path / "s.csv"
    assert run("inspect", tmp_path, "--model", mill / "d.safetensors", "--threshold", 1e9, "--csv", table) == 2
    said = capsys.readouterr()
    assert "0 of 1 pictures" in said.out and "3 of 4 pictures were passed over" in said.err and "--tile" in said.err
    [row] = csv.DictReader(table.open())
    assert row["faulty"] == "0" and row["x"] == ""


def test_a_detector_written_and_read_is_the_same_and_tiles_cover_all(mill, tmp_path):
    one = detector.read(mill / "d.safetensors")
    assert one.settings.teacher == detector.SMALL and one.settings.tile == 64 and one.settings.threshold > 0
    one.write(tmp_path / "again.safetensors")
    other = detector.read(tmp_path / "again.safetensors")
    image = fabric("twill", np.random.default_rng(5), 100)[:, :70]
    assert np.array_equal(one.map(image), other.map(image)) and one.map(image).shape == (100, 70)
    for length in (64, 65, 100, 200):
        starts = detector._starts(length, 64)
        assert starts[0] == 0 and starts[-1] == length - 64 and max(np.diff([*starts, starts[-1]])) <= 64
    one.settings.scale = 2.0
    assert one.scaled(image, "x").shape == (200, 140, 3)


@pytest.mark.parametrize(
    ("count", "share", "above"), [(10, 0.0, 0), (10, 0.1, 1), (10, 0.19, 1), (100, 0.05, 5), (1, 0.5, 0), (3, 0.99, 2)]
)
def test_a_threshold_lets_through_what_it_says(count, share, above):
    scores = np.random.default_rng(0).random(count).tolist()
    assert sum(score > threshold_of(scores, share) for score in scores) == above


def test_it_says_what_painted_faults_it_would_find(mill, tmp_path, capsys):
    assert run("fit", mill / "good", "--out", tmp_path / "g.safetensors", "--tile", 64, "--steps", 2, "--general",
               "--false-alarms", 0, "--teacher-weights", mill / "teacher.safetensors") == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "0 of 2 held-out pictures" in said and "painted missing yarn: found on" in said
    assert not detector.read(tmp_path / "g.safetensors").settings.links


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "good", "--out", "d.pt"], ".safetensors"),
        (["fit", "good", "--out", "no/d.safetensors"], "folder that exists"),
        (["fit", "good", "--out", "x.safetensors", "--tile", "100"], "multiple of 32"),
        (["fit", "good", "--out", "x.safetensors", "--scale", "nan"], "--scale"),
        (["fit", "good", "--out", "x.safetensors", "--false-alarms", "1"], "less than 1"),
        (["fit", "good", "--out", "x.safetensors", "--batch", "1"], "--batch"),
        (["fit", "good/1.png", "--out", "x.safetensors"], "at least 5"),
        (["fit", "empty", "--out", "x.safetensors"], "no pictures"),
        (["fit", "good", "--out", "x.safetensors", "--teacher-weights", "teacher.safetensors"], "lower --tile"),
        (
            ["fit", "good", "--out", "x.safetensors", "--tile", "64", "--teacher-weights", "none.safetensors"],
            "no weight",
        ),
        (["fit", "good", "--out", "x.safetensors", "--tile", "64", "--teacher", "no_such_net"], "no_such_net"),
        (["inspect", "today", "--model", "none.safetensors"], "no detector"),
        (["inspect", "today", "--model", "bad.safetensors"], "damaged"),
        (["inspect", "today", "--model", "teacher.safetensors"], "not written by"),
        (["inspect", "today", "--model", "cut.safetensors"], "does not fit"),
        (["inspect", "today", "--model", "odd.safetensors"], "damaged"),
        (["inspect", "good/1.png", "--model", "d.safetensors", "--csv", "s.txt"], ".csv"),
        (["inspect", "today", "--model", "d.safetensors", "--maps", "d.safetensors"], "is a file"),
        (["inspect", "good", "--model", "d.safetensors", "--maps", "good"], "would be lost"),
        (["inspect", "today", "--model", "d.safetensors", "--threshold", "nan"], "number"),
        (["inspect", "empty", "--model", "d.safetensors"], "no pictures"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(mill, monkeypatch, capsys, words, said):
    monkeypatch.chdir(mill)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (mill / "empty").mkdir(exist_ok=True)
    (mill / "bad.safetensors").write_bytes(b"<html>")
    state = load_file("d.safetensors")
    about = {"format": detector.FORMAT, "settings": '{"teacher": "small", "tile": 64}'}
    save_file(dict(list(state.items())[:9]), "cut.safetensors", about)
    save_file(state, "odd.safetensors", about | {"settings": '{"teacher": "small", "tiles": 64}'})
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (mill / "x.safetensors").exists()


def test_help_explains_the_columns(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "share" in capsys.readouterr().out
    with pytest.raises(UserError, match="no detector"):
        detector.read(detector.Path("nowhere.safetensors"))
    assert spoil(np.zeros((64, 64, 3), np.uint8), "stain", np.random.default_rng(0))[1].any()
