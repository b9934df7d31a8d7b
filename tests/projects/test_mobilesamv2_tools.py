"""MobileSAMv2's commands: what they write is what the networks say and is read back, and what they refuse."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from common.data.readers.coco_instances import CocoInstances
from common.evaluators.detection import encode_masks
from projects.mobilesamv2.models import read_detector
from projects.mobilesamv2.propose import Proposals
from projects.mobilesamv2.tools import export, segment
from tests.projects.mobilesam_small import picture
from tests.projects.mobilesamv2_small import write_detector, write_sam


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Weights in run folders, and a folder of pictures, one of them turned by its EXIF data, one broken."""
    folder = tmp_path_factory.mktemp("given")
    photos = folder / "photo s"
    photos.mkdir(parents=True)
    Image.fromarray(picture()).save(photos / "a.png")
    turned = Image.fromarray(picture()).getexif()
    turned[0x0112] = 6
    Image.fromarray(picture()).save(photos / "b.jpg", exif=turned)
    (folder / "broken").mkdir()
    (folder / "broken/c.png").write_bytes(b"no picture")
    Image.fromarray(picture()).save(folder / "broken/d.png")
    return folder, str(write_sam(folder / "sam")), str(write_detector(folder / "detector"))


def run(given, *words):
    folder, sam, _ = given
    return segment.main([*(str(folder / word) if "/" in word else word for word in words), "--checkpoint", sam])


def test_everything_of_a_folder_as_pictures_and_as_coco(given, tmp_path, capsys):
    folder, _, detector = given
    words = ["--everything", "--detector", detector, "--confidence", "0.05", "--most", "7"]
    out = ["--out", str(tmp_path / "drawn"), "--coco", str(tmp_path / "masks.json")]
    assert run(given, "photo s/", *words, *out) == 0
    assert {Image.open(file).size[0] > 600 for file in (tmp_path / "drawn").glob("*.png")} == {True}
    assert {file.name for file in (tmp_path / "drawn").iterdir()} == {"a.png", "b.png"}
    first, second = CocoInstances(str(folder / "photo s"), str(tmp_path / "masks.json"))
    assert first.image.shape[:2] == second.image.shape[1::-1] and first.categories == ["object"] * len(first.masks)
    kept = json.loads((tmp_path / "masks.json").read_text())["annotations"]
    assert 0 < len(kept) <= 14 and [entry["id"] for entry in kept] == list(range(1, len(kept) + 1))
    scores = [entry["score"] for entry in kept if entry["image_id"] == 1]
    assert scores == sorted(scores, reverse=True)
    assert [entry["area"] for entry in kept if entry["image_id"] == 1] == [int(mask.sum()) for mask in first.masks]
    assert "7 masks of 7 prompts" in capsys.readouterr().out


def test_boxes_of_one_s_own_and_a_grid(given, tmp_path):
    coco = tmp_path / "masks.json"
    assert run(given, "photo s/a.png", "--box", "8,12,34,44", "--box", "50,20,80,50", "--coco", str(coco)) == 0
    assert len(json.loads(coco.read_text())["annotations"]) == 2
    out = tmp_path / "grid.webp"
    assert run(given, "photo s/a.png", "--everything", "--grid", "2", "--out", str(out)) == 0
    assert Image.open(out).format == "WEBP"


def test_run_folders_do_and_names_count_whole_where_nothing_is_drawn(given, tmp_path, capsys):
    folder, sam, detector = given
    (tmp_path / "two").mkdir()
    for name in ("x.png", "x.bmp"):
        Image.fromarray(picture()).save(tmp_path / "two" / name)
    runs = ["--everything", "--detector", str(folder / "detector"), "--checkpoint", str(folder / "sam")]
    assert segment.main([str(tmp_path / "two"), *runs, "--coco", str(tmp_path / "m.json")]) == 0
    assert segment.main([str(tmp_path / "two"), *runs, "--out", str(tmp_path / "drawn")]) == 2
    assert "several pictures are called x" in capsys.readouterr().err and not (tmp_path / "drawn").exists()
    assert export.parser().parse_args([*runs[1:], "--out", "o"]).detector == folder / "detector/weights.safetensors"


def test_a_broken_picture_among_others_is_passed_over(given, tmp_path, capsys):
    assert run(given, "broken/", "--box", "8,12,34,44", "--coco", str(tmp_path / "m.json")) == 2
    assert "1 of 2 pictures were passed over" in capsys.readouterr().err
    assert [image["file_name"] for image in json.loads((tmp_path / "m.json").read_text())["images"]] == ["d.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to segment"), (["--everything", "--box", "1,1,5,5"], "say what to segment"),
        (["--box", "5,5,1,1"], "is no box"), (["--box", "1,nan,5,5"], "is no box"), (["--box", "1,1,5"], "is no box"),
        (["--box", "1,1,500,5"], "reaches outside"), (["--everything", "--confidence", "2"], "is no share"),
        (["--everything", "--most", "0"], "is no such number"), (["--everything", "--out", "a.gif"], "must end"),
        (["--everything", "--out", "gone/a.png"], "no folder"), (["--everything", "--coco", "a.txt"], "ends in .json"),
        (["--everything", "--out", "a.png", "--detector", "gone/weights.safetensors"], "no run folder"),
        (["--box", "1,1,5,5", "--detector", "x"], "leave one of them out"), (["--everything"], "nothing to write"),
        (["--everything", "--out", "a.png", "--encoder", "gone.pt"], "no weight file"),
        (["--everything", "--confidence", "0.2"], "would change nothing"),
        (["--box", "1,1,5,5", "--grid", "4"], "would change nothing"),
        (["--everything", "--detector", "x", "--grid", "4"], "would change nothing"),
    ],
)  # fmt: skip
def test_what_is_refused(words, message, given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = (
        []
        if message == "nothing to write" or "--out" in words or "--coco" in words
        else ["--coco", str(tmp_path / "m.json")]
    )
    assert run(given, "photo s/a.png", *words, *written) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_the_picture_itself_is_never_written_over(given, capsys):
    before = (given[0] / "broken/d.png").read_bytes()
    for name in ("broken/d.png", "broken/"):
        words = [name, "--out", str(given[0] / name)]
        assert run(given, *words, "--box", "1,1,9,9") == 2
        assert "would be lost" in capsys.readouterr().err
    assert (given[0] / "broken/d.png").read_bytes() == before


@pytest.mark.parametrize("tool", [segment, export])
def test_help_comes_without_torch(tool, capsys):
    with pytest.raises(SystemExit) as ended:
        tool.main(["--help"])
    assert ended.value.code == 0 and "--detector" in capsys.readouterr().out


def test_the_exported_detector_says_the_same_boxes(given, tmp_path):
    detector = read_detector(given[0] / "detector/weights.safetensors", 64)
    export.export_detector(detector, tmp_path / "detector.onnx")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    boxes, scores = (torch.from_numpy(found[0]) for found in session.run(None, {"images": images.numpy()}))
    [found] = detector.detect(images, [(64, 64)], 0.0, 1.0, len(boxes))
    torch.testing.assert_close(scores.sort(descending=True).values, found.scores, atol=1e-5, rtol=1e-4)
    best = boxes[scores.argmax()]
    near = torch.where(best[:2] < 1.25, 0.0, best[:2]), torch.where(best[2:] > 64 - 1.25, 64.0, best[2:])
    snapped = torch.cat(near)
    assert (snapped - found.boxes[0]).abs().max() < 1e-3


def test_three_files_are_exported(given, tmp_path, monkeypatch, capsys):
    written = []
    for name in ("export_encoder", "export_decoder"):
        monkeypatch.setattr(f"common.models.sam_onnx.{name}", lambda sam, path, **_: path.write_bytes(b"x"))
    monkeypatch.setattr(export, "export_detector", lambda detector, path: written.append(path.write_bytes(b"x")))
    words = ["--detector", given[2], "--checkpoint", given[1], "--out", str(tmp_path / "onnx")]
    assert export.main(words) == 0
    assert {file.stem for file in (tmp_path / "onnx").iterdir()} == {"decoder", "detector", "encoder"}
    (tmp_path / "file").write_text("")
    assert export.main([*words[:-1], str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_drawing_has_the_smallest_masks_on_top():
    masks = np.zeros((2, 60, 90), bool)
    masks[0, 20:30, 20:30] = True
    masks[1, 5:50, 5:60] = True
    drawn = segment.overlay(picture(), Proposals(encode_masks(masks), torch.ones(2), 2))
    scale = drawn.shape[0] / 60
    inner, outer = drawn[int(25 * scale), int(25 * scale)], drawn[int(40 * scale), int(25 * scale)]
    assert np.abs(inner.astype(int) - outer.astype(int)).sum() > 60
