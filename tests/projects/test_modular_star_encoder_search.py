"""Searching a folder: what is found, what is kept, what users are told; and the evaluation's pictures."""

import json
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
    folder = tmp_path / "runs/mini/finetune-1/seed0"
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
    searcher = search.Searcher(run, 2)
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
    searcher = search.Searcher(run)
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
    searcher = search.Searcher(run, 1)
    assert searcher.layer == 1 and len(searcher.encoder.trunk.layers) == 1
    functions = search.read_folder(folder).functions
    query, codes = searcher.query("numbers"), searcher.embed_functions(functions)
    best = searcher.search("numbers", functions, top=2)
    assert best[0].score == pytest.approx((codes @ query).max().item())
    assert search.Searcher(run).layer == 2


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
    assert "the query is empty" in said([str(folder), " ", *given], capsys)
    assert "--top 0" in said([str(folder), "x", "--top", "0", *given], capsys)
    assert "done.json is missing" in said([str(folder), "x", "--run", str(unfinished(run))], capsys)
    monkeypatch.setattr(search, "RUNS", tmp_path / "none")
    monkeypatch.setattr(search.newest_run, "__defaults__", (tmp_path / "none",))
    assert "make reproduce PAPER=modular_star_encoder" in said([str(folder), "x"], capsys)


def unfinished(run: Path) -> Path:
    (run / "done.json").unlink()
    return run


def test_the_newest_run_with_most_exits_is_taken(run, tmp_path):
    single = run.parents[1] / "finetune-2/seed0"
    single.mkdir(parents=True)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["exits"] = [2]
    (single / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("done.json", "weights.safetensors"):
        (single / name).write_text(json.dumps({}))
    assert search.newest_run(tmp_path / "runs") == run


def test_pictures_show_every_point_and_answer():
    chart = cost_chart({"one": [(1.0, 0.2, "a"), (4.0, 0.3, "b")], "other": [(1.0, 0.1, "c")]}, "cost", "MRR")
    for picture in chart:
        assert picture.dtype == "uint8" and picture.shape[2] == 3 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 4
    listing = search_listing("a query", {"exit 1": [("f  a.py:1", True), ("g  b.py:2", False)], "exit 2": []})
    plain = search_listing("a query", {"exit 1": [("f  a.py:1", False), ("g  b.py:2", False)], "exit 2": []})
    assert listing.shape == plain.shape and (listing != plain).any()
