"""What the authors of ANNCUR have published, and the commands for people."""

import json
import pickle

import numpy as np
import pytest
import torch

from common.data.stores import ArrayStore
from common.errors import UserError
from common.rehearsal.hub import snapshot, write_hub
from projects.anncur.encoders import BertSizes, build
from projects.anncur.harness.rehearsal import write_checkpoint
from projects.anncur.released import check_matrix, load_encoder, official_state, open_scores
from projects.anncur.scorer import row_names
from projects.anncur.tools import recall, search

TINY = BertSizes(vocab_size=40, hidden_size=16, layers=1, heads=2, positions=32, dropout=0.0)


@pytest.mark.parametrize("kind", ["emb", "cls", "dual"])
def test_a_published_checkpoint_fills_the_encoder_and_runs_nothing(kind, tmp_path, monkeypatch):
    torch.manual_seed(0)
    theirs, ours = build(kind, TINY), build(kind, TINY)
    file = tmp_path / "weights.ckpt"
    write_checkpoint(theirs, file)
    assert b"utils.config" in file.read_bytes().replace(b"\n", b".")  # a class that nobody here has
    assert "model.input_encoder.bert_model.pooler.dense.weight" in official_state(file) or kind != "dual"
    load_encoder(ours, file)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    other = build("dual" if kind != "dual" else "emb", TINY)
    with pytest.raises(UserError, match="weights.ckpt: .* does not fit"):
        load_encoder(other, file)


def test_a_checkpoint_with_code_in_it_runs_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    file = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"model.encoder.x": torch.zeros(1)}, "hyper_parameters": Evil()}, file)
    with pytest.raises(UserError):
        load_encoder(build("emb", TINY), file)
    with (tmp_path / "evil.pkl").open("wb") as handle:
        pickle.dump({"ment_to_ent_scores": Evil()}, handle)
    with pytest.raises(UserError, match="has no 'ment_to_ent_scores'"):
        open_scores(tmp_path / "evil.pkl")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_official_matrices(kind, tmp_path):
    scores = torch.arange(12.0).view(3, 4)
    content = {
        "ment_to_ent_scores": scores if kind == "tensor" else scores.numpy(),
        "ment_to_ent_scores.shape": scores.shape,
        "test_data": [{"mention": "x", "label_id": 1}],
        "mention_tokens_list": [[1, 2]],
        "entity_id_list": np.arange(4),
        "entity_tokens_list": np.zeros((4, 2), int),
        "arg_dict": {"n_ment": np.int64(3)},
    }
    with (tmp_path / "m.pkl").open("wb") as handle:
        pickle.dump(content, handle)
    matrix = open_scores(tmp_path / "m.pkl")
    assert matrix.tolist() == scores.tolist() and matrix[1].tolist() == [4, 5, 6, 7]
    queries, items = torch.arange(6).view(3, 2), torch.arange(8).view(4, 2)
    check_matrix(matrix, queries, items, "model.scores")
    with pytest.raises(UserError, match="model.scores holds 3 x 4 scores, not 3 x 3"):
        check_matrix(matrix, queries, items[:3], "model.scores")


def test_a_stored_matrix_is_of_the_domain_that_is_searched(tmp_path):
    queries, items = torch.arange(6).view(3, 2), torch.arange(8).view(4, 2)
    writer = ArrayStore.create(tmp_path, 3, (4,), "float32", key="here", names=row_names(queries, items))
    for row in writer.missing():
        writer.write(row, np.zeros(4))
    writer.flush()
    check_matrix(open_scores(tmp_path), queries, items, "model.scores")
    for other in ((queries + 1, items), (queries, items.flip(0))):
        with pytest.raises(UserError, match="model.scores holds scores of other texts"):
            check_matrix(open_scores(tmp_path), *other, "model.scores")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pkl", None, "no scores at"),
        ("absent", None, "no stored arrays at"),
        ("cut.pkl", pickle.dumps({"ment_to_ent_scores": np.zeros((9, 9))})[:-40], "is damaged or no pickle"),
        ("page.pkl", b"<html>", "is damaged or no pickle"),
        ("other.pkl", pickle.dumps([1]), "has no 'ment_to_ent_scores'"),
        ("line.pkl", pickle.dumps({"ment_to_ent_scores": np.zeros(9)}), r"holds float64 \[9\]"),
        ("nan.pkl", pickle.dumps({"ment_to_ent_scores": np.full((2, 2), np.nan)}), "not finite"),
        ("text.npy", b"no array", "is no array of numbers"),
    ],
)
def test_matrices_that_are_none(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_scores(tmp_path / name)


def test_recall_of_a_matrix_needs_nothing_else(tmp_path, capsys):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 90))
    np.save(tmp_path / "m.npy", scores)
    store = ArrayStore.create(tmp_path / "store", 60, (90,), "float32", key="x")
    for i in store.missing():
        store.write(i, scores[i])
    store.flush()
    tables = []
    for source in ("m.npy", "store"):
        argv = [
            str(tmp_path / source),
            "--anchors",
            "20",
            "--budgets",
            "10",
            "40",
            "--k",
            "1",
            "10",
            "--oracle",
            "--json",
        ]
        assert recall.main(argv) == 0
        tables.append(json.loads(capsys.readouterr().out))
    assert tables[0] == tables[1] and tables[0]["anncur"]["40"] == {"1": 1, "10": 1}  # of rank 4
    assert tables[0]["random"]["40"]["10"] == pytest.approx(40 / 90, abs=0.1)
    np.save(tmp_path / "tests.npy", scores[20:])
    assert (
        recall.main([str(tmp_path / "m.npy"), "--tests", str(tmp_path / "tests.npy"), "--budgets", "40", "--k", "1"])
        == 0
    )
    assert "60 anchor queries, 40 test queries, 90 items" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--anchors", "60"], "60 anchor queries of 60 queries leave none"),
        (["--anchors", "9", "--budgets", "91"], "--budgets 91: from 2 calls to the number of items, 90"),
        (["--anchors", "9", "--budgets", "9", "--share", "1.5"], "--share 1.5"),
        (["--anchors", "9", "--budgets", "9", "--k", "0"], "--k 0"),
    ],
)
def test_recall_says_what_is_wrong(options, message, tmp_path, capsys):
    np.save(tmp_path / "m.npy", np.zeros((60, 90)))
    assert recall.main([str(tmp_path / "m.npy"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    hub, name = tmp_path_factory.mktemp("hub"), "cross-encoder/ms-marco-MiniLM-L6-v2"
    write_hub(hub, [name])
    return str(snapshot(hub, name))


def test_search_in_one_s_own_texts(tmp_path, model, capsys):
    (tmp_path / "my items.txt").write_bytes("\ufeffa brown cat\r\n\r\na white dog\r\nthe capital\r\n".encode())
    (tmp_path / "old.txt").write_text("which animal?\nwhich city?\n\n")
    (tmp_path / "new.txt").write_text("a cat\n")
    files = ["--items", str(tmp_path / "my items.txt"), "--anchors", str(tmp_path / "old.txt")]
    argv = [*files, "--index", str(tmp_path / "index"), "--model", model, "--device", "cpu"]
    argv += ["--anchor-items", "1", "--top", "2"]
    assert search.main(["a dog", "--queries", str(tmp_path / "new.txt"), "--json", *argv]) == 0
    shown = capsys.readouterr()
    first, second = (json.loads(line) for line in shown.out.splitlines())
    assert (first["query"], second["query"]) == ("a dog", "a cat") and first["calls"] == 3
    assert {r["text"] for r in first["results"]} < {"a brown cat", "a white dog", "the capital"}
    assert "6 calls" in shown.err
    assert search.main(["a dog", *argv]) == 0
    shown = capsys.readouterr()
    assert "a dog  (3 calls)" in shown.out and "for the index" not in shown.err  # its scores are kept
    (tmp_path / "my items.txt").write_text("a brown cat\na black dog\nthe capital\n")
    assert search.main(["a dog", *argv]) == 2
    assert "delete the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "items", "options", "message"),
    [
        ([], "a\n", [], "nothing to search for"),
        ([" "], "a\n", [], "nothing to search for"),
        (["a"], "\n\n", [], "items.txt has no line with text"),
        (["a"], "caf\xe9\n", [], "iconv"),
        (["a"], "a\n", ["--budget", "0"], "--budget 0: at least 1"),
        (["a"], None, [], "items.txt"),
    ],
)
def test_search_says_what_is_wrong_before_a_model_is_loaded(words, items, options, message, tmp_path, capsys):
    if items is not None:
        (tmp_path / "items.txt").write_bytes(items.encode("latin-1"))
    (tmp_path / "old.txt").write_text("q\n")
    files = ["--items", str(tmp_path / "items.txt"), "--anchors", str(tmp_path / "old.txt")]
    assert search.main([*words, *files, "--index", str(tmp_path / "index"), *options]) == 2
    assert message in capsys.readouterr().err
