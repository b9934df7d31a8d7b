"""The commands for people: adapt to a folder of pictures, then name others; what is said where something is wrong."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_model

from common.training.runs import write_json
from projects.promptkd.model import PromptedClip
from projects.promptkd.tools import adapt, classify
from tests.projects.promptkd_small import KINDS, SENTENCE, clip, scenes, write_clips


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two CLIPs, ten pictures in a folder, names of classes, and a student that was adapted to them."""
    folder = tmp_path_factory.mktemp("tools")
    write_clips(folder)
    (folder / "my pictures").mkdir()
    for number in range(10):
        Image.fromarray(scenes()[number].image).save(folder / f"my pictures/{number}.png")
    (folder / "names.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*KINDS, ""]).encode())
    assert run(adapt, *words(folder, folder / "mine")) == 0
    return folder


def words(folder, out, **changed):
    options = {
        "--classes": folder / "names.txt", "--out": out, "--teacher": folder / "big", "--student": folder / "small",
        "--template": SENTENCE, "--epochs": 3, "--batch": 4, "--depth": 2, "--device": "cpu",
    }  # fmt: skip
    options |= {f"--{key}": value for key, value in changed.items()}
    return [folder / "my pictures", *(word for pair in options.items() for word in pair)]


def run(command, *given):
    return command.main([str(word) for word in given])


def fails(capsys, command, *given):
    """The message of a command that is to end with exit code 2."""
    capsys.readouterr()
    assert run(command, *given) == 2
    return capsys.readouterr().err


def test_a_student_names_pictures_of_the_classes(place, tmp_path, capsys):
    about = json.loads((place / "mine/adapted.json").read_text())
    assert about == {"clip": str(place / "small"), "classes": KINDS}
    Image.new("CMYK", (40, 30)).save(tmp_path / "large, with comma.jpg")
    given = [place / "mine", place / "my pictures", tmp_path / "large, with comma.jpg", "--top", 2, "--device", "cpu"]
    assert run(classify, *given, "--csv", tmp_path / "a.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11 and all(any(f": {kind} 0." in line for kind in KINDS) for line in lines)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "class", "probability"] and len(rows) == 1 + 2 * 11
    assert float(rows[1][2]) >= float(rows[2][2]) and rows[-1][0].endswith("large, with comma.jpg")


def test_the_same_command_leaves_the_same_student(place, tmp_path, capsys):
    assert run(adapt, *words(place, tmp_path / "again")) == 0
    assert "have the same name from teacher and student" in capsys.readouterr().out
    files = [folder / "student.safetensors" for folder in (place / "mine", tmp_path / "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_student_finds_its_clip_from_any_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    assert run(adapt, *words(place, tmp_path / "mine", student="small")) == 0
    monkeypatch.chdir(tmp_path)
    assert run(classify, "mine", place / "my pictures/0.png", "--device", "cpu") == 0


def test_a_teacher_with_prompts_is_taken_from_its_run(place, tmp_path):
    write = tmp_path / "teach"
    write.mkdir()
    prompted = PromptedClip(clip(32, 16), SENTENCE, depth=2)
    save_model(prompted.prompts, str(write / "weights.safetensors"))
    write_json(write / "config.yaml", {"model": {"clip": str(place / "big"), "sentence": SENTENCE}})
    assert run(adapt, *words(place, tmp_path / "taught", prompts=write)) == 0
    files = [folder / "student.safetensors" for folder in (place / "mine", tmp_path / "taught")]
    assert files[0].read_bytes() != files[1].read_bytes()


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"classes": "nothing.txt"}, "no such file"),
        ({"epochs": 1}, "--epochs 1: at least 2"),
        ({"batch": 1}, "--batch 1: at least 2"),
        ({"batch": 64}, "do not fill one batch of 64"),
        ({"lr": 0}, "are above 0"),
        ({"template": "a photo"}, "it has no {}"),
        ({"depth": 7}, "do not fit an image tower of 2 blocks"),
        ({"teacher": "ViT-B-99:openai"}, "ViT-B-99"),
        ({"prompts": "nowhere"}, "no run folder of the stage teach"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(place, tmp_path, capsys, changed, said):
    assert said in fails(capsys, adapt, *words(place, tmp_path / "out", **changed))
    assert not (tmp_path / "out").exists()


def test_names_and_folders_that_do_not_serve(place, tmp_path, capsys):
    for content, said in (("cat\n", "has 1 names"), ("cat\ndog\ncat\n", "'cat' more than once")):
        (tmp_path / "n.txt").write_text(content)
        assert said in fails(capsys, adapt, *words(place, tmp_path / "out", classes=tmp_path / "n.txt"))
    assert "something is there" in fails(capsys, adapt, *words(place, place / "mine"))
    assert "nothing can be written into" in fails(capsys, adapt, *words(place, place / "names.txt/x"))
    assert "no pictures at" in fails(capsys, adapt, place / "nothing", *words(place, tmp_path / "out"))
    assert "adapted.json is missing" in fails(capsys, classify, tmp_path, place / "my pictures")
    assert "no folder" in fails(capsys, classify, tmp_path / "x", place / "my pictures")
    assert "--top 0" in fails(capsys, classify, place / "mine", place / "my pictures", "--top", 0)
    np.save(tmp_path / "no.npy", np.zeros(3))
    assert "cannot read" in fails(capsys, classify, place / "mine", tmp_path / "no.npy", "--device", "cpu")
    assert run(classify, place / "mine", tmp_path / "no.npy", place / "my pictures/0.png", "--device", "cpu") == 0
    said = capsys.readouterr()
    assert "passed over: cannot read" in said.err and len(said.out.splitlines()) == 1
