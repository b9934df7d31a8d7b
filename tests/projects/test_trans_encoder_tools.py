"""Trans-Encoder's commands: training on pairs of one's own, measuring models on the official files or one's own."""

import re
import runpy
import sys

import pytest

from common.data.worlds.sentence_pairs import SentencePairs
from common.rehearsal.text_models import bert, roberta
from projects.trans_encoder.tools import cycles, sts

PAIRS = SentencePairs(train=8, val=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny language models, a file of pairs and one of scored pairs."""
    root = tmp_path_factory.mktemp("own")
    for name, write in (("bert", bert), ("roberta", roberta)):
        (root / name).mkdir()
        write(root / name, layers=1)
    (root / "pairs.txt").write_text("".join(f"{pair.a} || {pair.b}\n" for pair in PAIRS.read("train")))
    (root / "scored.tsv").write_text("".join(f"{pair.a}\t{pair.b}\t{pair.score}\n" for pair in PAIRS.read("val")))
    return root


def in_this_process(line: list[str]) -> int:
    """A step without starting Python anew."""
    sys.argv = line[2:]
    try:
        runpy.run_module(line[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_pairs_and_a_language_model_of_one_s_own(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(cycles, "run", in_this_process)
    monkeypatch.setattr(sys, "argv", sys.argv)
    given = ["--pairs", str(folder / "pairs.txt"), "--val", str(folder / "scored.tsv"), "--plain", str(folder / "bert")]
    given += [
        "--cycles",
        "1",
        "--out",
        str(tmp_path),
        "--set",
        "data.batch_size",
        "4",
        "--set",
        "trainer.max_epochs",
        "1",
    ]
    assert cycles.main(given) == 0
    said = capsys.readouterr().out
    for name in ("model1-start", "model1-cycle1-cross", "model1-cycle1-bi"):
        assert (tmp_path / name / "model/model.safetensors").exists()
    assert f"{tmp_path}/model1-cycle1-bi/model (validation by cycle: " in said
    assert cycles.main(given) == 0  # finished steps are not run again
    assert capsys.readouterr().out.count("is finished") == 3

    measured = [
        "--pairs",
        str(folder / "scored.tsv"),
        "--bi",
        *(str(tmp_path / f"model1-{name}/model") for name in ("start", "cycle1-bi")),
    ]
    assert sts.main(measured) == 0
    shown = capsys.readouterr().out
    assert "their mean (bi)" in shown and "word overlap" in shown and "scored" in shown


def test_two_language_models_learn_from_each_other(folder, tmp_path, capsys):
    given = [
        "--pairs",
        str(folder / "pairs.txt"),
        "--plain",
        str(folder / "bert"),
        "xlm-roberta-base",
        "--start",
        "a/b",
        "c/d",
    ]
    assert cycles.main([*given, "--cycles", "2", "--out", str(tmp_path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and not list(tmp_path.iterdir())
    first = lines[0]
    assert (
        "--model.teachers.first a/b --model.teachers.second c/d" in first
        and f"--model.start {folder / 'bert'}" in first
    )
    assert all("--data.val null --model.keep last" in line for line in lines)  # nothing to choose by
    assert f"--run_dir {tmp_path / 'model2-cycle2-bi'}" in lines[-1] and "--model.start c/d" in lines[-1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--plain", "a", "b", "c"], "one or two --plain"),
        (["--start", "a", "b"], "1 --plain and 2 --start"),
        (["--pairs", "nowhere.txt"], "no file .*nowhere.txt"),
        (["--val", "pairs.txt"], "pair 1, has no score"),
        (["--cycles", "0"], "--cycles is 1 or more"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(folder, tmp_path, monkeypatch, capsys, changed, message):
    monkeypatch.chdir(folder)
    given = ["--pairs", "pairs.txt", "--plain", "bert", "--out", str(tmp_path / "out")]
    assert cycles.main([*given, *changed]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
