"""Searching a folder: what is found, what is kept, what users are told; and the evaluation's pictures."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_model

from projects.modular_star_encoder.harness.pictures import cost_chart, search_listing
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes
from projects.modular_star_encoder.tokens import build_tokenizer
from projects.modular_star_encoder.tools import search

SIZES = {"hidden": 16, "feed_forward": 24, "layers": 4, "heads": 4, "kv_heads": 2, "max_length": 32, "dropout": 0.0}
CODE = "def add(a, b):\n    '''Add two numbers.'''\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run as `finetune` leaves it, with random weights and exits after layers 1 and 2."""
    folder = tmp_path / "runs/modular_star_encoder/mini-stdlib/finetune-1/seed0"
    folder.mkdir(parents=True)
    tokenizer = build_tokenizer([CODE] * 3, 300)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    data = {
        "tokenizer": str(tmp_path / "tokenizer"),
        "max_length": 32,
        "code_instruction": "c",
        "text_instruction": "t",
    }
    model = {"sizes": SIZES, "exits": [1, 2], "trunk": "x", "weighting": "depth"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
    (folder / "done.json").write_text("{}")
    torch.manual_seed(0)
    save_model(MultiExitEncoder(TrunkSizes(**SIZES), len(tokenizer), [1, 2]), str(folder / "weights.safetensors"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text(CODE)
    (tmp_path / "code/bad.py").write_text("def x(:\n")
    return tmp_path / "code"


def test_it_prints_functions_with_file_and_line(run, folder, capsys):
    assert search.main([str(folder), "add two numbers", "--exit", "1", "--run", str(run)]) == 0
    shown = capsys.readouterr()
    assert f"{folder}/a.py:1  add\n        Add two numbers." in shown.out and f"{folder}/a.py:6  sub" in shown.out
    assert shown.err.startswith("1 files skipped, the first: bad.py")
    scores = [float(line.split()[0]) for line in shown.out.splitlines() if "a.py:" in line]
    assert scores == sorted(scores, reverse=True) and len(scores) == 2
    assert search.main([str(folder), "add", "--top", "1", "--run", str(run)]) == 0
    assert capsys.readouterr().out.count("a.py:") == 1


def test_only_new_and_changed_functions_are_embedded_again(run, folder, monkeypatch):
    searcher = search.Searcher(search.of_run(run), 2)
    functions = search.read_folder(folder).functions
    first = searcher.embed_functions(functions)
    embedded: list[int] = []
    embed = searcher.embed
    monkeypatch.setattr(searcher, "embed", lambda rows: embedded.append(len(rows)) or embed(rows))
    assert torch.equal(searcher.embed_functions(functions), first) and not embedded
    (folder / "a.py").write_text(CODE.replace("a - b", "b - a"))
    changed = searcher.embed_functions(search.read_folder(folder).functions)
    assert embedded == [1] and torch.equal(changed[0], first[0]) and not torch.equal(changed[1], first[1])
    searcher.index.write_bytes(b"cut off")
    assert torch.equal(searcher.embed_functions(functions), first)  # a damaged index is made anew


def test_an_interrupted_search_goes_on(run, folder, monkeypatch):
    monkeypatch.setattr(search, "BATCH", 1)
    monkeypatch.setattr(search, "SAVED", 1)
    searcher = search.Searcher(search.of_run(run))
    functions = search.read_folder(folder).functions
    embed, calls = searcher.embed, []

    def broken(rows):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(rows)

    monkeypatch.setattr(searcher, "embed", broken)
    with pytest.raises(KeyboardInterrupt):
        searcher.embed_functions(functions)
    found = searcher.embed_functions(functions)
    assert len(calls) == 3 and len(found) == 2  # the first function's embedding was kept


def test_a_search_is_the_encoder_s_at_that_exit(run, folder):
    searcher = search.Searcher(search.of_run(run), 1)
    assert searcher.layer == 1 and len(searcher.encoder.trunk.layers) == 1
    functions = search.read_folder(folder).functions
    query, codes = searcher.query("numbers"), searcher.embed_functions(functions)
    (best,) = searcher.search(["numbers"], functions, top=2)
    assert best[0].score == pytest.approx((codes @ query).max().item())
    assert search.Searcher(search.of_run(run)).layer == 2


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert search.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    return shown.err


def test_errors_say_what_to_do(run, folder, tmp_path, monkeypatch, capsys):
    given = ["--run", str(run)]
    assert "has no exit after layer 3; its exits: 1, 2" in said([str(folder), "x", "--exit", "3", *given], capsys)
    assert "no folder at" in said([str(tmp_path / "x"), "x", *given], capsys)
    (tmp_path / "empty").mkdir()
    assert "no Python file" in said([str(tmp_path / "empty"), "x", *given], capsys)
    (tmp_path / "empty/a.py").write_text("x = 1\n")
    assert "no function in the 1 Python files" in said([str(tmp_path / "empty"), "x", *given], capsys)
    assert "a query is empty" in said([str(folder), " ", *given], capsys)
    assert "--top 0" in said([str(folder), "x", "--top", "0", *given], capsys)
    assert "done.json is missing" in said([str(folder), "x", "--run", str(unfinished(run))], capsys)
    monkeypatch.setenv("RUNS", str(tmp_path / "none"))
    assert "make reproduce PAPER=modular_star_encoder DATA=stdlib" in said([str(folder), "x"], capsys)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "neither a folder nor a hub id" in said([str(folder), "x", "--hub", "owner/not there"], capsys)


def unfinished(run: Path) -> Path:
    (run / "done.json").unlink()
    return run


def written(run: Path, arms: dict[str, str], seeds: tuple[str, ...] = ("0",)) -> Path:
    """The results file of a reproduction whose arms were fine-tuned in folders of these fingerprints."""
    stages = {name: [{"stage": "evaluate", "fingerprint": "9"}, {"stage": "finetune", "fingerprint": f}]
              for name, f in arms.items()}  # fmt: skip
    content = {"arms": {name: {"seeds": {s: {} for s in seeds}, "stages": stages[name]} for name in arms}}
    file = run.parents[1] / "results.json"
    file.write_text(json.dumps(content))
    return file


def test_the_method_s_run_is_taken_though_another_is_newer(run, folder, tmp_path, monkeypatch, capsys):
    other = run.parents[1] / "finetune-2/seed0"
    shutil.copytree(run, other)
    file = written(run, {"multi_exit": "1", "nsp": "2", "lost": "3"})
    runs = tmp_path / "runs"
    assert search.run_of("multi_exit", runs) == run and search.run_of("nsp", runs) == other
    monkeypatch.setenv("RUNS", str(runs))
    monkeypatch.chdir(folder)  # a command works from any folder
    assert search.main([".", "add"]) == 0 and (run / "search").is_dir() and not (other / "search").exists()
    assert search.main([".", "add", "--arm", "nsp"]) == 0 and (other / "search").is_dir()
    capsys.readouterr()
    assert "did you mean" in said([".", "add", "--arm", "nps"], capsys).lower()
    assert "no fine-tuned encoder" in said([".", "add", "--arm", "lost"], capsys)
    for content in ("", "[]", '{"arms": {"multi_exit": 3}}', "\xff" * 3):
        file.write_bytes(content.encode("latin-1"))
        assert "is damaged" in said([".", "add"], capsys)


def test_a_moved_run_works_without_the_folders_it_was_made_from(run, folder, tmp_path):
    shutil.copytree(tmp_path / "tokenizer", run / "tokenizer")
    there = tmp_path / "elsewhere"
    shutil.move(run, there)
    shutil.rmtree(tmp_path / "tokenizer")
    assert search.main([str(folder), "add", "--run", str(there)]) == 0


def test_a_moved_folder_of_runs_works(run, folder, tmp_path):
    runs, file = tmp_path / "runs", run / "config.yaml"
    words = runs / "modular_star_encoder/mini-stdlib/prepare-1/seed0/tokenizer"
    words.parent.mkdir(parents=True)
    shutil.move(tmp_path / "tokenizer", words)
    config = yaml.safe_load(file.read_text())
    config["data"]["tokenizer"] = str(words)
    file.write_text(yaml.safe_dump({**config, "run_dir": str(run)}))
    shutil.move(runs, tmp_path / "elsewhere")
    there = tmp_path / "elsewhere" / run.relative_to(runs)
    assert search.main([str(folder), "add", "--run", str(there)]) == 0


def test_several_queries_embed_the_folder_once_and_answer_as_json(run, folder, monkeypatch, capsys):
    asked: list[int] = []
    monkeypatch.setattr(search, "read_folder", lambda f, read=search.read_folder: asked.append(1) or read(f))
    assert search.main([str(folder), "add", "take away", "--json", "--top", "1", "--run", str(run)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["query"] for answer in found] == ["add", "take away"] and len(asked) == 1
    (first,) = found[0]["results"]
    assert set(first) == {"score", "file", "line", "name", "text"} and Path(first["file"]).is_file()
    assert search.main([str(folder), "add", "take away", "--run", str(run)]) == 0
    assert capsys.readouterr().out.count(":\n") == 2


def test_where_nothing_can_be_written_the_search_goes_on(run, folder, monkeypatch, capsys):
    def refused(*_):
        raise PermissionError(13, "Read-only file system", "search")

    monkeypatch.setattr(os, "replace", refused)
    assert search.main([str(folder), "add", "--run", str(run)]) == 0
    shown = capsys.readouterr()
    assert "a.py:1" in shown.out and "embeddings are not kept" in shown.err


@pytest.mark.parametrize("content", ["", "model: [1]", "model: {trunk: x}", "a: [", "\xff", "a: &a [*a]"])
def test_a_damaged_config_of_a_run_is_an_error(run, folder, capsys, content):
    (run / "config.yaml").write_bytes(content.encode("latin-1"))
    assert "config.yaml" in said([str(folder), "x", "--run", str(run)], capsys)


def test_pictures_show_every_point_and_answer():
    chart = cost_chart({"one": [(1.0, 0.2, "a"), (4.0, 0.3, "b")], "other": [(1.0, 0.1, "c")]}, "cost", "MRR")
    for picture in chart:
        assert picture.dtype == "uint8" and picture.shape[2] == 3 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 4
    listing = search_listing("a query", {"exit 1": [("f  a.py:1", True), ("g  b.py:2", False)], "exit 2": []})
    plain = search_listing("a query", {"exit 1": [("f  a.py:1", False), ("g  b.py:2", False)], "exit 2": []})
    assert listing.shape == plain.shape and (listing != plain).any()
