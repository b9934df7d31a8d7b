"""The command that slims, classifies and exports: what it writes is what it reads; files from the wild; errors."""

import json

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from projects.sit.tools.slim import load, main

TEACHER = "test_vit"
SLIM = ["train", "photos", "--batch", "4", "--teacher"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with pictures, the weights of a network of three classes, and that network slimmed."""
    folder = tmp_path_factory.mktemp("sit")
    rng = np.random.default_rng(0)
    for k in range(12):
        place = folder / "photos" / ("a b" if k % 2 else "c")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)).save(place / f"{k}.png")
    (folder / "photos/c/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    torch.manual_seed(0)
    net = timm.create_model(TEACHER, num_classes=3)
    torch.nn.init.normal_(net.head.weight)
    torch.save({"state_dict": net.state_dict()}, folder / "mine.pth")
    (folder / "names.txt").write_text("cat\r\ndog\r\nbird\r\n")
    words = ["photos", "--teacher", TEACHER, "--weights", "mine.pth", "--classes", "names.txt", "--steps", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *words, "--batch", "4", "--after", "2", "4"]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(work, monkeypatch):
    monkeypatch.chdir(work)


def test_what_is_written_is_a_slimmed_network_with_its_names(work):
    net, said = load(work / "slim.safetensors")
    assert said["classes"] == ["cat", "dog", "bird"] and net.after == [2, 4]
    assert net.counts == [100, 50, 50, 25, 25, 25]
    assert {name.split(".")[0] for name in load_file(work / "slim.safetensors")} == {"vit", "tsm"}


def test_pictures_are_classified_and_those_that_cannot_be_read_are_named(capsys):
    assert main(["classify", "photos/a b", "--model", "slim.safetensors", "--top", "9", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6 and all(sum(row["classes"].values()) == pytest.approx(1, abs=1e-3) for row in rows)
    assert main(["classify", "photos", "--model", "slim.safetensors"]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("photos") == 12 and "broken.jpg" in shown.err and "1 of 13" in shown.err


def test_the_export_answers_as_the_network_for_any_batch(work, capsys):
    assert main(["export", "--model", "slim.safetensors", "--out", "slim.onnx"]) == 0
    assert "mean" in capsys.readouterr().out
    net, _ = load(work / "slim.safetensors")
    session = onnxruntime.InferenceSession(work / "slim.onnx")
    for count in (1, 3):
        images = torch.randn(count, 3, 160, 160)
        [found] = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, net(images).numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*SLIM, "test_vitt"], "did you mean test_vit"),
        ([*SLIM, "resnet10t", "--weights", "mine.pth"], "no plain vision transformer"),
        (["train", "none", "--teacher", TEACHER], "no folder at none"),
        ([*SLIM, TEACHER, "--batch", "32"], "do not fill a batch"),
        ([*SLIM, TEACHER, "--weights", "no.pth"], "no weight file"),
        ([*SLIM, TEACHER, "--weights", "headless.safetensors"], "head.weight"),
        ([*SLIM, TEACHER, "--weights", "mine.pth", "--after", "7"], "1 to 6"),
        ([*SLIM, TEACHER, "--keep", "1"], "--keep"),
        ([*SLIM, TEACHER, "--lr", "nan"], "--lr"),
        ([*SLIM, TEACHER, "--out", "x.pt"], ".safetensors"),
        ([*SLIM, TEACHER, "--classes", "mine.txt", "--weights", "mine.pth"], "1 classes"),
        (["classify", "photos", "--model", "mine.pth"], "not written by"),
        (["classify", "photos", "--model", "no.safetensors"], "no file"),
        (["classify", "empty", "--model", "slim.safetensors"], "no pictures"),
        (["classify", "photos", "--model", "slim.safetensors", "--top", "0"], "--top"),
        (["export", "--model", "slim.safetensors", "--out", "no/x.onnx"], "folder that is there"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(work, capsys, words, said):
    (work / "empty").mkdir(exist_ok=True)
    (work / "mine.txt").write_text("cat\n")
    save_file({"w": torch.ones(2)}, work / "headless.safetensors")
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_help_says_how(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "classify photos/" in capsys.readouterr().out
