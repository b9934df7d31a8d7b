"""Captions from the command line."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_model

from projects.vlv.model import build_captioner
from projects.vlv.tools import caption, models
from tests.projects.vlv_small import QUERIES, SIZES, florence, write_foundations


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of stage 2, as a stage leaves it."""
    folder = tmp_path_factory.mktemp("run")
    t2i, words = write_foundations(folder)
    model = {"florence": {"sizes": SIZES, "prompt": [4, 5], "image_size": 8}, "unfrozen": "encoder", "queries": QUERIES}
    model |= {"text_to_image": t2i, "language_model": words}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": {"image_size": 8}}))
    torch.manual_seed(0)
    save_model(build_captioner(florence(), t2i, words, QUERIES), str(folder / "weights.safetensors"))
    return folder


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for name, shape in {"a.png": (30, 20, 3), "b.jpg": (9, 40, 3), "grey.png": (12, 12)}.items():
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / name)
        paths.append(str(tmp_path / name))
    return paths


def test_every_picture_gets_a_line(run, pictures, tmp_path, capsys):
    file = tmp_path / "captions.json"
    caption.main([*pictures, "--run", str(run), "--max-tokens", "8", "--raw", "--json", str(file), "--device", "cpu"])
    written = json.loads(file.read_text())
    assert list(written) == pictures
    assert capsys.readouterr().out == "".join(f"{path}: {text}\n" for path, text in written.items())
    caption.main([pictures[0], "--run", str(run), "--max-tokens", "8", "--raw", "--device", "cpu"])
    assert capsys.readouterr().out == f"{written[pictures[0]]}\n"  # alone as in company


def test_captions_are_cleaned_up_unless_they_are_asked_for_raw(run, pictures, monkeypatch, capsys):
    said = "A cat. A cat. And then"
    monkeypatch.setattr(caption, "describe", lambda *_: said)
    caption.main([pictures[0], "--run", str(run), "--device", "cpu"])
    assert capsys.readouterr().out == "A cat.\n"
    caption.main([pictures[0], "--run", str(run), "--raw", "--device", "cpu"])
    assert capsys.readouterr().out == f"{said}\n"


def test_broken_pictures_are_named_and_the_others_described(run, pictures, tmp_path, capsys):
    (tmp_path / "page.jpg").write_text("<html>")
    file = tmp_path / "captions.json"
    options = ["--run", str(run), "--max-tokens", "8", "--device", "cpu", "--json", str(file)]
    assert caption.main(["missing.jpg", *pictures[:2], str(tmp_path / "page.jpg"), pictures[2], *options]) == 1
    assert list(json.loads(file.read_text())) == pictures
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and len(err.splitlines()) == 2
    assert "cannot read missing.jpg" in err and "page.jpg: it is no picture" in err


def test_pictures_are_decoded_one_at_a_time_and_described_at_once(run, pictures, monkeypatch, capsys):
    steps = []
    read = models.read_picture
    monkeypatch.setattr(models, "read_picture", lambda path: steps.append("read") or read(path))
    monkeypatch.setattr(caption, "describe", lambda *_: steps.append("describe") or "A cat.")
    assert caption.main([*pictures, "--run", str(run), "--device", "cpu"]) == 0
    assert steps == ["read", "describe"] * 3


def test_an_interrupt_keeps_what_was_found(run, pictures, tmp_path, monkeypatch, capsys):
    found = iter(["A cat."])

    def describe(*_):
        for text in found:
            return text
        raise KeyboardInterrupt

    monkeypatch.setattr(caption, "describe", describe)
    file = tmp_path / "captions.json"
    assert caption.main([*pictures, "--run", str(run), "--device", "cpu", "--json", str(file)]) == 130
    assert json.loads(file.read_text()) == {pictures[0]: "A cat."}


def test_a_folder_and_names_that_are_no_text(run, pictures, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/a\xe9.png"))
    monkeypatch.setattr(caption, "describe", lambda *_: "A cat.")
    file = tmp_path / "captions.json"
    assert caption.main([str(tmp_path), "--run", str(run), "--device", "cpu", "--json", str(file)]) == 0
    names = [rf"{tmp_path}/{name}" for name in (r"a\xe9.png", "b.jpg", "grey.png")]
    assert list(json.loads(file.read_text())) == names
    assert capsys.readouterr().out == "".join(f"{name}: A cat.\n" for name in names)


def refused(capsys, *arguments: str) -> str:
    assert caption.main(list(arguments)) == 2
    return capsys.readouterr().err


def test_errors_say_what_to_do(run, pictures, tmp_path, capsys):
    folder = str(run)
    assert "cannot read missing.jpg" in refused(capsys, "missing.jpg", "--run", folder)
    (tmp_path / "page.jpg").write_text("<html>")
    assert "no picture of a known kind" in refused(capsys, str(tmp_path / "page.jpg"), "--run", folder)
    assert "give a run folder of stage 2" in refused(capsys, pictures[0], "--run", str(tmp_path))
    (tmp_path / "config.yaml").write_text("model: {queries: 4}\n")
    assert "the run is not finished" in refused(capsys, pictures[0], "--run", str(tmp_path))
    (tmp_path / "weights.safetensors").write_text("")
    assert "a run of another stage" in refused(capsys, pictures[0], "--run", str(tmp_path))
    assert "at least 1" in refused(capsys, pictures[0], "--run", folder, "--beams", "0")
