"""The command that says which emotions a text has: texts, contexts, files from the wild, errors."""

import csv
import json

import pytest
import torch

from common.data.tokenizers import build_wordpieces
from common.models.text_classifier import ClassifierConfig, build_classifier
from projects.emo_pillars.tools.classify import main, read


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run folder with a classifier for three emotions that reads contexts."""
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    tokenizer = build_wordpieces(["so happy and so sad about the well"], 300)
    config = ClassifierConfig(family="roberta", hidden=16, layers=1, heads=2, token_types=2)
    net = build_classifier(config, 3, len(tokenizer))
    net.config.id2label, net.config.problem_type = {0: "joy", 1: "sadness", 2: "fear"}, "multi_label_classification"
    for part in (net, tokenizer):
        part.save_pretrained(run / "model")
    return run


def told(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr()


def scores(capsys, model, *words):
    return [json.loads(line) for line in told(capsys, *words, "--model", model, "--json").out.splitlines()]


def test_a_text_its_context_and_both_folders_of_a_model(capsys, model):
    [alone] = scores(capsys, model, "so happy")
    [again] = scores(capsys, model / "model", "so happy")
    [inside] = scores(capsys, model, "so happy", "--context", "about the well")
    assert alone == again and set(alone["scores"]) == {"joy", "sadness", "fear"}
    assert inside["context"] == "about the well" and inside["scores"] != alone["scores"]
    out = told(capsys, "so happy", "--model", model, "--threshold", 0.01).out
    values = [float(line.split()[1]) for line in out.splitlines()]
    assert len(values) == 3 and values == sorted(values, reverse=True) and "#" in out
    assert "no emotion from 0.999 on" in told(capsys, "so happy", "--model", model, "--threshold", 0.999).out


def test_a_file_gives_a_table_in_its_own_order(capsys, model, tmp_path):
    file = tmp_path / "a b.csv"
    file.write_text("\ufeffid;Text;context\r\n1;so happy;\r\n2;;\r\n3;so sad;about the well\r\n4;well;\r\n", newline="")
    out = told(capsys, "--file", file, "--model", model, "--threshold", 0.01, "--out", tmp_path / "out.csv").out
    assert "3 texts" in out
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["context"], row["text"]) for row in rows] == [
        ("", "so happy"),
        ("about the well", "so sad"),
        ("", "well"),
    ]
    for row in rows:
        [one] = scores(capsys, model, row["text"], *(["--context", row["context"]] if row["context"] else []))
        assert {name: float(row[name]) for name in one["scores"]} == pytest.approx(one["scores"], abs=1e-3)
        assert set(row["emotions"].split(", ")) == set(one["scores"])
    assert told(capsys, "--file", file, "--model", model).out.startswith("context,text,emotions,joy,sadness,fear\n")


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.txt", "so happy\r\n\r\n  so sad \n", [("", "so happy"), ("", "so sad")]),
        ("a.tsv", "text\tcontext\nso, sad\tx\n", [("x", "so, sad")]),
        ("a.jsonl", '{"text": "so happy", "context": null}\n\n{"text": "é"}\n', [("", "so happy"), ("", "é")]),
        ("a.csv", 'text\n"two\nlines"\n', [("", "two\nlines")]),
        ("a.csv", "\n\ntext;context\nso;x\n", [("x", "so")]),
    ],
)
def test_files_as_people_have_them(name, text, rows, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read(tmp_path / name) == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"comment,label\nx,1\n", "has no column 'text', or several: its columns are comment, label"),
        ("a.csv", b"text,text\nx,y\n", "or several: its columns are text, text"),
        ("a.csv", b"", "its columns are none"),
        ("a.csv", b"text\n" + b"x" * 200_000 + b"\n", "is no table, after line 1: field larger than"),
        ("a.txt", b"\n\n", "has no text"),
        ("a.txt", b"\xe9t\xe9\n", "not UTF-8"),
        ("a.jsonl", b'{"text": 3}\n', "line 1, is no JSON object with a text"),
        ("a.pdf", b"x", "is a .txt, .csv, .tsv or .jsonl"),
    ],
)
def test_bad_files_are_one_sentence(name, content, said, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert main(["--file", str(tmp_path / name), "--model", "x"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a text, or --file"),
        (["x", "--file", "y.txt"], "give a text, or --file"),
        (["  "], "the text is empty"),
        (["--file", "absent.txt"], "absent.txt is missing"),
        (["--file", "x.txt", "--context", "y"], "--context goes with one text"),
        (["x", "--out", "y.csv"], "--out takes the table of a --file"),
        (["--file", "x.txt", "--out", "y.png"], "give a .csv"),
        (["x", "--threshold", "1.5"], "between 0 and 1"),
        (["x", "--threshold", "nan"], "between 0 and 1"),
        (["x", "--max-length", "2"], "at least 8"),
        (["x", "--model", "/absent/model"], "no AutoModelForSequenceClassification at"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words, said, capsys):
    assert main([*words, *([] if "--model" in words else ["--model", "x"])]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ")


def test_a_folder_without_a_classifier_says_so(tmp_path, capsys):
    assert main(["x", "--model", str(tmp_path)]) == 2
    assert "give the folder of a finished training" in capsys.readouterr().err
