"""ProCLIP's readers on the layouts of the releases, and its command: classify and retrieve, files, errors."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from common.data.scene import UnreadableSample
from common.errors import UserError
from common.rehearsal.datasets import make_sentences
from projects.proclip.harness.rehearsal import PAIRS as COUNT
from projects.proclip.harness.rehearsal import PICTURES, write_pairs, write_sets
from projects.proclip.readers import ABOUT, Crossmodal, DreamLip, RetrievalSet
from projects.proclip.sets import Measures
from projects.proclip.tools import search
from tests.projects.proclip_small import PAIRS, measures, write_all


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number, root in enumerate(("cc3m", "cc12m")):
        write_pairs(folder / root / "00000.tar", COUNT, 100 * number)
    write_sets(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run folder of stage 2 with what it was trained from, and pictures."""
    folder = tmp_path_factory.mktemp("tools")
    found = write_all(folder)
    (folder / "my pictures").mkdir()
    for k in range(6):
        Image.fromarray(PAIRS.image(k)[0]).save(folder / f"my pictures/{k} ä.png")
    return {name: str(path) for name, path in found.items()} | {"pictures": str(folder / "my pictures")}


def test_dreamlips_captions_are_read_in_the_order_short_raw_long(data):
    source = DreamLip([f"{data}/cc3m", f"{data}/cc12m"])
    assert len(source) == 2 * COUNT and source.views == 3 and len(source.texts()) == 6 * COUNT
    short, raw, *long = make_sentences(4, 103)
    assert source.captions(COUNT + 3) == (short, raw, " ".join(long))
    assert source.captions(COUNT + 3) == tuple(source.texts()[3 * (COUNT + 3) + view] for view in range(3))
    assert source[COUNT + 3].label == COUNT + 3 and source[0].image.shape == (48, 64, 3)
    with pytest.raises(UnreadableSample, match="no text in 'longIB_captions'"):
        DreamLip([f"{data}/cc3m"], ("longIB_captions",)).captions(0)
    assert DreamLip([f"{data}/cc3m"], ("longIB_captions",)).texts()[0] == ""
    with pytest.raises(UserError, match="give one at least"):
        DreamLip([])


@pytest.mark.parametrize("name", ABOUT)
def test_a_retrieval_set_is_read_as_it_is_released(data, name):
    source = RetrievalSet(f"{data}/{name}", name)
    counts = {len(source.captions(k)) for k in range(len(source))}
    assert len(source) == PICTURES and counts == {{"flickr30k": 5, "coco": 5, "xm3600": 2}.get(name, 1)}
    assert all(text.strip() for k in range(len(source)) for text in source.captions(k))
    assert source[1].label == 1 and source[1].image.shape == (48, 64, 3)
    assert len(RetrievalSet(f"{data}/{name}", name, limit=2)) == 2
    with pytest.raises(UserError, match="no folder at"):
        RetrievalSet(f"{data}/nowhere", name)


def test_a_set_in_many_languages_has_a_part_for_each(data):
    said = Measures(measures().labelled, {"xm3600": Crossmodal(f"{data}/xm3600")}).captioned
    assert len(said) == 36 and said["xm3600/de"].captions(0)


def test_sets_without_what_is_asked_for_say_so(data, tmp_path):
    with pytest.raises(UserError, match="no captions in 'xx'"):
        RetrievalSet(f"{data}/xm3600", "xm3600", language="xx")
    with pytest.raises(UserError, match="no captioned pictures"):
        RetrievalSet(f"{data}/docci", "docci", "val")
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [{"filename": "../a.jpg"}]}))
    with pytest.raises(UserError, match="dataset_coco.json is not as expected"):
        RetrievalSet(str(tmp_path), "coco")
    with pytest.raises(UserError, match="is missing"):
        RetrievalSet(f"{data}/urban1k", "docci")


def run(capsys, *words):
    code = search.main([str(word) for word in words])
    return (code, *capsys.readouterr())


def test_pictures_are_classified_and_found(place, capsys, tmp_path):
    table = tmp_path / "labels.csv"
    code, said, _ = run(
        capsys, "classify", place["pictures"], "--labels", "a red disc, a blue bar", "--run", place["run"],
        "--csv", table, "--top", 1, "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and said.count("\n") == 6 and "0 ä.png: a " in said
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["query", "found", "cosine"] and len(rows) == 7 and abs(float(rows[1][2])) <= 1
    (tmp_path / "long.txt").write_text("a plain crimson circle\nin the upper left " * 20, encoding="utf-8")
    code, said, _ = run(
        capsys, "retrieve", tmp_path / "long.txt", "a blue bar", "--images", place["pictures"], "--run", place["run"],
        "--top", 2,
    )  # fmt: skip
    assert code == 0 and said.count(".png (") == 4


def test_a_picture_that_cannot_be_read_is_named_and_left_out(place, capsys, tmp_path):
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    words = ["classify", tmp_path, "--labels", "a red disc,a blue bar", "--run", place["run"]]
    code, said, errors = run(capsys, *words)
    assert code == 1 and said.startswith(f"{tmp_path}/grey.png") and f"left out: cannot read {tmp_path}/b.png" in errors
    (tmp_path / "grey.png").unlink()
    code, _, errors = run(capsys, *words)
    assert code == 2 and "none of the pictures could be read" in errors


def test_bad_words_end_in_one_sentence(place, capsys, tmp_path):
    pictures, good = place["pictures"], ["--run", place["run"]]
    labels = ["classify", pictures, "--labels", "a, b"]
    (tmp_path / "config.yaml").write_text("model: {}\n")
    for words, wanted in {
        ("classify", pictures, "--labels", "one", *good): "two labels at least",
        (*labels, "--template", "a photo", *good): "holds no {}",
        (*labels, "--top", "0", *good): "--top is at least 1",
        (*labels, "--csv", str(tmp_path / "no/where.csv"), *good): "a folder that is there",
        (*labels, "--run", str(tmp_path / "nowhere")): "is no run folder: it has no config.yaml",
        (*labels, "--run", str(tmp_path)): "no run folder of stage 2",
        (*labels, "--model", str(tmp_path / "nowhere"), *good): "nowhere",
        (*labels, "--weights", str(tmp_path / "no.safetensors"), *good): "no weight file",
        ("classify", str(tmp_path), "--labels", "a, b", *good): "no pictures in",
        ("retrieve", " ", "--images", pictures, *good): "a text is empty",
    }.items():
        code, _, errors = run(capsys, *words)
        assert code == 2 and errors.startswith("error: ") and wanted in errors, (words, errors)


def test_help_comes_without_torch(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as end:
        search.run(["classify", "--help"])
    assert end.value.code == 0 and "--labels" in capsys.readouterr().out
