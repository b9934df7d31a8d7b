"""The command: a file, several, a pipe; what is shown and written; bad input."""

import io
import json
import sys

import pytest
import torch

from common.rehearsal.text_models import xlm_roberta
from projects.llmlingua2.tools import compress

TEXT = "Two people ride bicycles along the river!\r\nIn 1998 the company had 1,250 employees. Is it so?\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    xlm_roberta(folder, layers=1, kind="XLMRobertaForTokenClassification", num_labels=2, initializer_range=0.5)
    return str(folder)


@pytest.fixture
def prompt(tmp_path):
    file = tmp_path / "my prompt.txt"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    return file


def test_a_file_is_shortened_and_shown(model, prompt, tmp_path, capsys):
    out, found = tmp_path / "short.txt", tmp_path / "found.json"
    given = [str(prompt), "--model", model, "--rate", "0.4", "--keep", "?", "\\n", "--digits", "--device", "cpu"]
    assert compress.main([*given, "--out", str(out), "--json", str(found)]) == 0
    said = capsys.readouterr().out
    short = out.read_text()
    assert "?" in short and "\ufeff" not in short
    assert (
        "[" in said and "tokens of the model, " in said and "x, " in said
    )  # dropped words in brackets where there are no colours
    content = json.loads(found.read_text())
    assert content["compressed_prompt"] + "\n" == short
    kept = "".join(word for word, keep in content["words"] if keep)
    assert kept.replace("\n", "") == "".join(content["compressed_prompt"].split())


def test_several_files_a_target_and_a_pipe(model, prompt, monkeypatch, capsys):
    assert compress.main([str(prompt), str(prompt), "--all", "--model", model, "--target", "20", "--quiet"]) == 0
    assert capsys.readouterr().out.strip()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert compress.main(["-", "--model", model, "--rate", "1", "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == TEXT.replace("\r\n", "\n").strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.txt"], "no file at"),
        (["{file}", "--rate", "0"], "--rate 0.0"),
        (["{file}", "--rate", "1.2"], "--rate 1.2"),
        (["{file}", "--target", "0"], "--target 0"),
        (["{file}", "--model", "/nowhere/at/all"], "neither a folder nor a hub id"),
        (["{empty}"], "is empty"),
        (["{odd}"], "UTF-8"),
    ],
)
def test_bad_input_ends_in_one_sentence(words, said, prompt, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "odd.txt").write_bytes(b"caf\xe9")
    files = {"file": prompt, "empty": tmp_path / "empty.txt", "odd": tmp_path / "odd.txt"}
    assert compress.main([word.format(**files) for word in words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
