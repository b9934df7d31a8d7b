"""The command that chooses widths: what it tells and writes, and what it refuses."""

import csv
from io import StringIO

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_model

from projects.controllable_mtl.model import Sizes
from projects.controllable_mtl.tasks import Task
from projects.controllable_mtl.tools.control import main
from projects.controllable_mtl.train import Training

NET = {
    "planes": [8, 16],
    "blocks": [1, 1],
    "strides": [1, 2],
    "features": 8,
    "hidden": 8,
    "stem": "small",
    "widths": [0.25, 1.0],
    "divisor": 2,
}
TASKS = [{"name": n, "kind": "class", "outputs": 10, "floor": 0.1} for n in ("left", "right")]
DIGITS = "projects.controllable_mtl.data.OverlappedDigits"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = Training(Sizes(**NET), [Task(**t) for t in TASKS])
    save_model(model.net, str(folder / "weights.safetensors"))
    data = {s: {"class_path": DIGITS, "init_args": {"split": s, "count": 40}} for s in ("train", "val")}
    write(folder, {"model": {"net": NET, "tasks": TASKS}, "data": {**data, "mirror": False}})
    return folder


def write(folder, settings):
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 0, "trainer": {}, **settings}))


def call(*words):
    return main([str(word) for word in words])


def test_widths_are_told_and_the_network_is_written(run, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    assert (
        call(
            "configure",
            run,
            "--preference",
            "0.9,0.1",
            "--budget",
            "0.5",
            "--samples",
            "32",
            "--device",
            "cpu",
            "--out",
            out,
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "encoder " in said and f"wrote {out}" in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith(("left", "right"))}
    assert float(rows["left"][1]) == 1 and float(rows["right"][1]) < 1
    share = float(said.split("a picture, ")[1].split("%")[0])
    assert 0 < share <= 50
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["left", "right"]
    for count in (1, 3):
        left, right = session.run(None, {"images": np.zeros((count, 3, 12, 12), np.float32)})
        assert left.shape == right.shape == (count, 10)


def test_a_sweep_is_a_table_and_a_picture(run, tmp_path, capsys):
    words = ("sweep", run, "--budgets", "0.4,1", "--points", "3", "--samples", "32", "--device", "cpu")
    assert call(*words, "--out", tmp_path / "t.png") == 0
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    assert len(rows) == 6 and all(float(r["cost"]) <= float(r["budget"]) for r in rows)
    assert [r["preference left"] for r in rows[:3]] == ["1", "0.5", "0"] and rows[0]["decoder left"] == "1"
    assert Image.open(tmp_path / "t.png").size == (460, 300)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["configure", "RUN", "--preference", "1,0,0"], "give 2 numbers"),
        (["configure", "RUN", "--preference=-1,2"], "give 2 numbers"),
        (["configure", "RUN", "--preference", "1,0", "--budget", "0"], "share above 0"),
        (["configure", "RUN", "--preference", "1,0", "--budget", "nan"], "share above 0"),
        (["configure", "RUN", "--preference", "1,0", "--budget", "0.01"], "no sub-network is that small"),
        (["configure", "RUN", "--preference", "1,0", "--out", "x.pt"], ".onnx"),
        (["configure", "RUN", "--preference", "1,0", "--samples", "0"], "at least 1"),
        (["configure", "nowhere", "--preference", "1,0"], "no config.yaml"),
        (["configure", "fixed", "--preference", "1,0"], "fixed widths"),
        (["configure", "odd", "--preference", "1,0"], "is not of projects.controllable_mtl.train"),
        (["configure", "damaged", "--preference", "1,0"], "does not fit"),
        (["sweep", "RUN", "--points", "1"], "at least 2"),
        (["sweep", "RUN", "--out", "no/x.png"], "folder that exists"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    torch.manual_seed(0)
    other = Training(Sizes(**{**NET, "hidden": 6}), [Task(**t) for t in TASKS])
    for name, model in (("fixed", {"widths": [1.0] * 4}), ("odd", {"nett": 1}), ("damaged", {})):
        (tmp_path / name).mkdir()
        write(tmp_path / name, {**settings, "model": {**settings["model"], **model}})
        save_model(other.net, str(tmp_path / name / "weights.safetensors"))
    assert call(*(run if word == "RUN" else word for word in words)) == 2
    assert said in capsys.readouterr().err
