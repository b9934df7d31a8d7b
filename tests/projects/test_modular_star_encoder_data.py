"""ModularStarEncoder's data: folders of Python, the real formats, windows with hidden tokens, pairs."""

import ast
import gzip
import json
import platform
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Tokenizer

from common.cli import main
from common.data.code import Function, FunctionSource, Repository, RepositorySource
from common.data.readers.clones import BigCloneBench, Poj104
from common.data.readers.code_search import CodeSearchNet, CodeTriplets
from common.data.readers.python_functions import first_sentence, functions_of, read_folder, twin
from common.data.readers.stack import StackRepositories
from common.data.text import LabelledText, TextSource
from common.errors import UserError
from common.rehearsal.tokenizers import byte_level
from projects.modular_star_encoder.clones import ClonePairs
from projects.modular_star_encoder.corpus import IGNORED, Corpus
from projects.modular_star_encoder.lexical import contents, weighted
from projects.modular_star_encoder.pairs import PairData
from projects.modular_star_encoder.prepare import Library, Preparation, described, facts, module_of, split_of
from projects.modular_star_encoder.testing import EvaluationData
from projects.modular_star_encoder.tokens import (
    Formatter,
    batched,
    build_tokenizer,
    load_marked_tokenizer,
    marked,
    marked_up,
    pieces,
)

SOURCE = '''import os


class Reader:
    """A class."""

    @property
    def name(self): "One line, with a body."; return self.path  # kept

    async def read(self, path, *rest, size=3):
        """Read a file from the disk. And more.

        Details.
        """
        # a comment
        with open(path) as handle:
            text = handle.read(size)
        try:
            return os.path.join(text, *rest)
        except OSError as error:
            raise ValueError(size=size) from error


def outer():
    """Only words stand here."""


def bare(x):
    def inner(y):
        return x + y
    return inner
'''


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    marked(byte_level(GPT2Tokenizer)).save_pretrained(folder)
    return folder


def test_functions_of_a_file():
    found = {function.name: function for function in functions_of(SOURCE, "a.py")}
    assert list(found) == ["Reader.name", "Reader.read", "outer", "bare", "bare.inner"]
    assert found["Reader.name"].code == "def name(self): return self.path  # kept"
    read = found["Reader.read"]
    assert read.text == "Read a file from the disk." and read.statements == 2
    assert SOURCE.splitlines()[read.line - 1].strip().startswith("async def read")
    assert read.code.startswith("async def read(self, path, *rest, size=3):\n    # a comment\n    with open")
    assert '"""' not in read.code and read.code.endswith("from error")
    assert found["outer"].statements == 0 and found["bare"].text == ""
    assert found["bare.inner"].code == "def inner(y):\n    return x + y"


def test_lines_are_those_of_the_parser_in_spite_of_form_feeds_and_other_alphabets():
    source = 'x = 1\n\x0c\ndef f(a):\n    "Größe ändern und mehr."; b = "ü"\n    return b\n'
    (function,) = functions_of(source)
    assert function.line == 3 and function.code == 'def f(a):\n    b = "ü"\n    return b'
    assert ast.parse(function.code)


def test_first_sentence():
    assert first_sentence("One\n   two. Three.\n\nFour.") == "One two."
    assert first_sentence("Returns 3.5 of it") == "Returns 3.5 of it" and first_sentence("") == ""


def test_a_twin_has_other_names_and_does_the_same():
    functions = {function.name: function for function in functions_of(SOURCE)}
    other = twin(functions["Reader.read"])
    assert "comment" not in other and "Read a file" not in other
    assert other.startswith("async def read(v0, v1, *v2, v3=3):\n    with open(v1) as v5:")
    assert "open(" in other and "os.path.join(" in other and "ValueError(size=" in other  # from outside
    assert "handle" not in other and "rest" not in other and "error" not in other.replace("OSError", "")
    source = "def total(values, start=1):\n    result = start\n    for v in values: result += v\n    return result"
    (function,) = functions_of(source)
    before, after = {}, {}
    exec(source, before), exec(twin(function), after)
    assert before["total"]([1, 2], 4) == after["total"]([1, 2], 4) == 7


def test_a_folder_is_read_in_order_and_broken_files_are_told(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b/two.py").write_text("def g():\n    return 2\n")
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\ndef h():\n    return 'ü'\n".encode("latin-1"))
    (tmp_path / "binary.py").write_bytes(b"\xff\x00\xfe")
    (tmp_path / ".hidden/x.py").write_text("def x():\n    return 0\n")
    found = read_folder(tmp_path)
    assert [(f.file, f.name, f.line) for f in found.functions] == [
        ("a.py", "f", 1),
        ("b/two.py", "g", 1),
        ("latin.py", "h", 2),
    ]
    assert set(found.skipped) == {"broken.py", "binary.py"} and set(found.texts) == {"a.py", "b/two.py", "latin.py"}
    assert [f.file for f in read_folder(tmp_path, without=["b", "latin.py"]).functions] == ["a.py"]


def test_a_folder_without_python_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no Python file"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="no folder at"):
        read_folder(tmp_path / "x")


def test_modules_and_their_twins_are_split_together():
    assert module_of("_pydatetime.py") == module_of("datetime.py:3") == "datetime"
    assert module_of("asyncio/events.py:10") == "asyncio" and module_of("_io.py") == module_of("_pyio.py") == "io"
    splits = {split_of(f"module{k}.py") for k in range(60)}
    assert splits == {"train", "val", "test"}
    share = np.mean([split_of(f"module{k}.py") == "train" for k in range(2000)])
    assert 0.7 < share < 0.8


def test_facts_change_with_any_function(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    found = read_folder(tmp_path)
    rows = described(found.functions)
    assert [row["func_name"] for row in rows] == ["Reader.name", "Reader.read"]  # a body, and four words
    assert rows[1]["path"].startswith("a.py:") and rows[1]["code_b"] == twin(found.functions[1])
    before = facts(rows)
    assert before == facts(list(reversed(rows))) and sum(before["functions"].values()) == 2
    rows[0]["code"] += " "
    assert facts(rows)["sha256"] != before["sha256"]


def test_prepared_data_are_read_as_the_real_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    root, out = tmp_path / "lib", tmp_path / "out"
    root.mkdir()
    for k in range(40):
        body = f'def f{k}(x):\n    """Return the number {k} of all."""\n    return x + {k}\n'
        (root / f"module{k}.py").write_text(body)
    (root / "broken.py").write_text("def (")
    main(Preparation, Library, ["predict", "--data.root", str(root), "--data.tokens", "120", "--run_dir", str(out)])
    found = {split: CodeSearchNet(str(out / "code"), "python").read(split) for split in ("train", "val", "test")}
    assert sum(map(len, found.values())) == 40 and all(found.values())
    assert all(split_of(f.where) == split for split, functions in found.items() for f in functions)
    train = CodeTriplets(str(out / "pairs/*.parquet")).read("train")
    assert [(f.text, f.code, f.twin) for f in train] == [(f.text, f.code, f.twin) for f in found["train"]]
    assert train[0].twin.startswith("def f") and "(v0)" in train[0].twin
    source = StackRepositories(str(out / "repositories/train.parquet"))
    assert len(source) == len(train) and {source[k].name for k in range(len(source))} == {
        module_of(f.where) for f in found["train"]
    }
    assert len(load_marked_tokenizer(str(out / "tokenizer"))) <= 120
    told = json.loads((out / "data.json").read_text())
    assert told["python"] == platform.python_version() and told["functions"]["train"] == len(train)
    assert len(told["sha256"]) == 64


def test_code_search_net_in_both_layouts(tmp_path):
    rows = [
        {"code": "a", "docstring": "Say  a.\n", "docstring_tokens": ["Say", "a", "."], "url": "u"},
        {"code": "b", "docstring": "Say b", "code_b": "c"},
    ]
    plain, archive = tmp_path / "plain/go", tmp_path / "old/go/final/jsonl/test"
    plain.mkdir(parents=True), archive.mkdir(parents=True)
    text = "\n".join(map(json.dumps, rows)) + "\n"
    (plain / "test.jsonl").write_text(text)
    with gzip.open(archive / "go_test_0.jsonl.gz", "wt") as handle:
        handle.write(text)
    for root in ("plain", "old"):
        found = CodeSearchNet(str(tmp_path / root), "go").read("test")
        assert [(f.text, f.code, f.twin, f.language) for f in found] == [
            ("Say a .", "a", "", "Go"),
            ("Say b", "b", "c", "Go"),
        ]
        assert found[0].where == "u" and found[1].where.endswith(":2")
    assert len(CodeSearchNet(str(tmp_path / "old"), "go", limit=1).read("test")) == 1
    with pytest.raises(UserError, match="no valid split"):
        CodeSearchNet(str(tmp_path / "plain"), "go").read("val")
    (plain / "valid.jsonl").write_text('{"docstring": "x"}\n')
    with pytest.raises(UserError, match=r"valid\.jsonl, line 1, is not as expected: code: Field required"):
        CodeSearchNet(str(tmp_path / "plain"), "go").read("val")
    (plain / "valid.jsonl").write_text(text + '{"docstring": "x"')
    with pytest.raises(UserError, match="line 3, is not as expected: Invalid JSON"):
        CodeSearchNet(str(tmp_path / "plain"), "go").read("val")


def test_functions_are_their_tokens_without_the_docstring_and_a_codebase_adds_to_them(tmp_path):
    (tmp_path / "go").mkdir()
    row = {"code": 'f() { "Say a" }', "code_tokens": ["f", "(", ")"], "docstring": "Say a"}
    (tmp_path / "go/test.jsonl").write_text(json.dumps(row) + "\n")
    source = CodeSearchNet(str(tmp_path), "go")
    (function,) = source.read("test")
    assert function.code == "f ( )" and function.text == "Say a" and source.beyond("test") == []
    other = {"code": "g", "code_tokens": ["g"], "docstring": "Say g"}
    (tmp_path / "go/codebase.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n")
    assert [f.code for f in source.beyond("test")] == ["g"]  # the test's own functions are candidates anyway


def test_functions_that_stand_together_share_a_batch(tokenizer):
    data = pairs(tokenizer, together=4, twins=0.0, batch_size=8)
    assert len(data) == 10 and [d.function.text for d in data.draw(2, np.random.default_rng(0))] == [
        f"do {k}" for k in (8, 9, 10, 11)
    ]
    first, _ = data.collate([data.draw(k, np.random.default_rng(k)) for k in (2, 0)])
    assert first["input_ids"].shape[0] == 8
    with pytest.raises(UserError, match="batches of 6 pairs cannot hold 4 together"):
        pairs(tokenizer, together=4, batch_size=6)


def test_triplets_hold_out_their_last_rows_and_name_their_columns(tmp_path):
    for number in range(2):
        rows = [{"text": f"t{number}{k}", "code_a": "a", "code_b": None, "lang": "C"} for k in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"train-{number}.parquet")
    source = CodeTriplets(str(tmp_path / "train-*.parquet"), language="lang", held_out=2)
    assert [f.text for f in source.read("train")] == ["t00", "t01", "t02", "t10"]
    assert [f.text for f in source.read("val")] == ["t11", "t12"]
    assert source.read("val")[0] == Function("t11", "a", "", "C", "", "train-1.parquet:1")
    with pytest.raises(UserError, match="has no column 'code', only text, code_a, code_b, lang"):
        CodeTriplets(str(tmp_path / "train-0.parquet"), code="code").read("train")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot read"):
        CodeTriplets(str(tmp_path / "bad.parquet")).read("train")
    with pytest.raises(UserError, match="no parquet files"):
        CodeTriplets(str(tmp_path / "x*.parquet"))


def test_the_stack_by_row_groups(tmp_path):
    rows = [{"repo_name": f"r{k}", "files": [{"path": "p", "content": f"{k}.{n}"} for n in range(k)]} for k in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.Table.from_pylist(rows[3:]), tmp_path / "b.parquet")
    source = StackRepositories(str(tmp_path / "*.parquet"))
    assert len(source) == 7 and [source[k].name for k in (1, 2, 3, 4, 5, 6)] == ["r1", "r2", "r3", "r4", "r3", "r4"]
    assert source[0] == source[1] == Repository("r1", ["1.0"])  # the first has no file: the next one stands in
    assert len(StackRepositories(str(tmp_path / "*.parquet"), limit=3)) == 3
    ids = [{"repo_name": "r", "files": [{"blob_id": "x"}]}]
    pq.write_table(pa.Table.from_pylist(ids), tmp_path / "ids.parquet")
    with pytest.raises(UserError, match="without `content`: fetch them"):
        StackRepositories(str(tmp_path / "ids.parquet"))
    pq.write_table(pa.Table.from_pylist([{"x": 1}]), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="has columns x, not"):
        StackRepositories(str(tmp_path / "other.parquet"))


def test_clone_detection_as_codexglue_has_it(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"label": "7", "index": "0", "code": "int main() {}"}\n')
    (program,) = Poj104(str(tmp_path)).read("test")
    assert (program.code, program.label) == ("int main() {}", 7)
    (tmp_path / "data.jsonl").write_text('{"func": "f", "idx": "1"}\n{"func": "g", "idx": "2"}\n')
    (tmp_path / "test.txt").write_text("1\t2\t1\n2\t2\t0\n")
    found = BigCloneBench(str(tmp_path)).read("test")
    assert [(f.text, f.pair, f.label) for f in found] == [("f", "g", 1), ("g", "g", 0)]
    (tmp_path / "test.txt").write_text("1\t3\t1\n")
    with pytest.raises(UserError, match=r"test\.txt, line 1"):
        BigCloneBench(str(tmp_path)).read("test")
    with pytest.raises(UserError, match=r"valid\.jsonl is missing"):
        Poj104(str(tmp_path)).read("val")


def test_markers_have_the_ids_behind_the_pieces(tokenizer):
    loaded = load_marked_tokenizer(str(tokenizer))
    base = len(loaded) - 4
    ids = [loaded.sep_token_id, loaded.cls_token_id, loaded.mask_token_id, loaded.pad_token_id]
    assert ids == [base, base + 1, base + 2, base + 3]
    assert pieces(loaded, ["a <cls> b"], 50)[0].count(loaded.cls_token_id) == 0  # text is never a marker
    assert loaded.decode(pieces(loaded, ["def f(x):"], 50)[0]) == "def f(x):"
    with pytest.raises(UserError, match="no tokenizer at"):
        load_marked_tokenizer(str(tokenizer / "x"))


def test_the_small_tokenizer_takes_identifiers_apart(tmp_path):
    made = build_tokenizer(["def readLine(file_name): return HTTPServer.readLine"] * 2, 120)
    words = made.convert_ids_to_tokens(pieces(made, ["read_line(fileName) HTTPServer ß"], 50)[0])
    assert words == ["read", "_", "line", "(", "file", "name", ")", "httpserver", "<unk>"]
    made.save_pretrained(tmp_path)
    again = load_marked_tokenizer(str(tmp_path))
    assert again.get_vocab() == made.get_vocab() and again.mask_token == "<mask>"
    assert again.convert_ids_to_tokens(pieces(again, ["readLine"], 50)[0]) == ["read", "line"]
    assert len(build_tokenizer(["some words that are more than fit"], 80)) == 80


def test_inputs_have_the_format_and_are_padded_on_the_left(tokenizer):
    form = Formatter(load_marked_tokenizer(str(tokenizer)), 30, "code in {language}:", "text")
    rows = form.code(["x = 1", "y" * 200], ["Go", "Python"])
    decoded = [form.tokenizer.decode(row) for row in rows]
    assert decoded[0] == "<sep>code in go:<sep>x = 1<cls>" and len(rows[1]) == 30
    assert all(row[0] == form.tokenizer.sep_token_id for row in rows)
    assert all(row[-1] == form.tokenizer.cls_token_id for row in rows)
    batch = form.batch([rows[1], rows[0][-3:]])
    assert batch["attention_mask"][1].tolist() == [0] * (len(rows[1]) - 3) + [1] * 3
    assert (batch["input_ids"][:, -1] == form.tokenizer.cls_token_id).all()
    assert form.tokenizer.decode(form.text(["a b"])[0]) == "<sep>text<sep>a b<cls>"
    short = Formatter(form.tokenizer, 8, "a long instruction", "text")
    assert len(short.code(["x = 1"], [""])[0]) <= 8  # an instruction is cut before all of the content is


class Repositories(RepositorySource):
    """Each repository's files hold its own letter alone."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Repository:
        return Repository(str(index), ["abcdef"[index] * 3 + "\n", ("abcdef"[index] + "\n") * 400])


def corpus(tokenizer: Path, objective: str, **settings) -> Corpus:
    return Corpus(Repositories(), str(tokenizer), objective, max_length=24, **settings)


def letters(data: Corpus, ids: np.ndarray) -> list[set[str]]:
    """The letters of each part of a window."""
    words = data.tokenizer.decode(ids).removesuffix("<cls>").split("<sep>")[1:]
    return [set(part) & set("abcdef") for part in words]


@pytest.mark.parametrize("objective", ["icc", "nsp"])
def test_parts_belong_together_or_come_from_other_repositories(tokenizer, objective):
    data = corpus(tokenizer, objective, hidden=0.0)
    seen = {0: 0, 1: 0}
    for k in range(60):
        sample = data.draw(k % 6, np.random.default_rng(k))
        seen[sample["together"]] += 1
        parts = letters(data, np.where(sample["labels"] == IGNORED, sample["input_ids"], sample["labels"]))
        assert len(parts) >= 2 and all(len(part) <= 1 for part in parts) and len(sample["input_ids"]) <= 24
        assert sample["input_ids"][-1] == data.tokenizer.cls_token_id
        neighbours = [a == b for a, b in zip(parts, parts[1:], strict=False) if a and b]
        assert all(neighbours) if sample["together"] else not any(neighbours)
        if objective == "nsp":
            assert len(parts) == 2
    assert 15 < seen[1] < 45


def test_hidden_tokens_are_bert_s(tokenizer):
    data = corpus(tokenizer, "mlm", hidden=0.3)
    ids = np.array(marked_up(data.tokenizer, [[7, 8, 9] * 4000, [10] * 4000]))
    seen, labels = data._hide(ids, np.random.default_rng(0))
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.3, abs=0.02) and (labels[chosen] == ids[chosen]).all()
    assert (seen[~chosen] == ids[~chosen]).all() and not chosen[[0, 12001, -1]].any()  # markers are never hidden
    masked = seen[chosen] == data.tokenizer.mask_token_id
    kept = seen[chosen] == ids[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.02) and kept.mean() == pytest.approx(0.1, abs=0.02)
    _, one = corpus(tokenizer, "mlm", hidden=0.0)._hide(ids[:5], np.random.default_rng(0))
    assert (one != IGNORED).sum() == 1  # never none: the mean over none is not a number


def test_windows_follow_from_the_seed_and_are_batched(tokenizer):
    data = corpus(tokenizer, "icc")
    samples = [data.draw(k, np.random.default_rng(k)) for k in range(4)]
    again = [data.draw(k, np.random.default_rng(k)) for k in range(4)]
    assert all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(samples, again, strict=True))
    batch = data.collate(samples)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all() and batch["together"].shape == (4,)


class Functions(FunctionSource):
    def read(self, split) -> list[Function]:
        return [Function(f"do {k}", f"def f{k}(x): return x + x", f"def g{k}(y): return y + y") for k in range(40)]


def pairs(tokenizer: Path, **settings) -> PairData:
    fixed = {"code_instruction": "code", "text_instruction": "text", "max_length": 40}
    return PairData(Functions(), Functions(), str(tokenizer), **fixed, **settings)


@pytest.mark.parametrize(("twins", "low", "high"), [(0.0, 0, 0), (0.5, 10, 30), (1.0, 40, 40)])
def test_half_of_the_pairs_are_words_and_code_the_others_code_and_code(tokenizer, twins, low, high):
    data = pairs(tokenizer, twins=twins, replace=0.0)
    first, second = data.collate([data.draw(k, np.random.default_rng(k)) for k in range(40)])
    words = [
        data.formatter.tokenizer.decode(row[row != data.formatter.tokenizer.pad_token_id]) for row in first["input_ids"]
    ]
    code = [
        data.formatter.tokenizer.decode(row[row != data.formatter.tokenizer.pad_token_id])
        for row in second["input_ids"]
    ]
    assert low <= sum(word.startswith("<sep>code<sep>def g") for word in words) <= high
    for k, (word, found) in enumerate(zip(words, code, strict=True)):
        assert found == f"<sep>code<sep>def f{k}(x): return x + x<cls>"
        assert word in (f"<sep>text<sep>do {k}<cls>", f"<sep>code<sep>def g{k}(y): return y + y<cls>")


def test_frequent_tokens_of_training_code_are_replaced_throughout(tokenizer):
    data = pairs(tokenizer, replace=1.0)
    special = data.formatter.tokenizer.all_special_ids
    sep, cls = data.formatter.tokenizer.sep_token_id, data.formatter.tokenizer.cls_token_id
    assert {sep, cls} <= set(special)
    new = data._replaced([sep, 5, 9, 9, sep, 5, 6, 5, 7, 7, cls], np.random.default_rng(0))
    assert new[:5] == [sep, 5, 9, 9, sep] and new[-1] == cls  # the instruction stays as it is, as markers do
    assert new[6] == 6 and new[5] == new[7] and new[8] == new[9] and (new[5], new[8]) != (5, 7)
    text, code = data.pairs(data.val[:3])  # validation sees code as it is
    row = code["input_ids"][0]
    assert "def f0(x): return x + x" in data.formatter.tokenizer.decode(row)
    assert "do 0" in data.formatter.tokenizer.decode(text["input_ids"][0])


def test_test_data_are_named_in_the_order_of_their_loaders(tokenizer, tmp_path):
    (tmp_path / "go").mkdir()
    for part, count in (("test", 3), ("valid", 2), ("codebase", 5)):
        rows = [{"code": f"{part if part != 'codebase' else 'test'}{k}", "docstring": f"do {k}"} for k in range(count)]
        (tmp_path / f"go/{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    fixed = {"code_instruction": "in {language}", "text_instruction": "text", "max_length": 30}
    sets = {"a": CodeSearchNet(str(tmp_path), "go"), "b": Functions()}
    data = EvaluationData(sets, str(tokenizer), validated=True, **fixed)
    loaders = data.test_dataloader()
    assert data.parts == [("test", "a"), ("others", "a"), ("val", "a"), ("test", "b"), ("val", "b")]
    batches = [next(iter(loader)) for loader in loaders]
    assert [len(batch.code["input_ids"]) for batch in batches[:3]] == [3, 2, 2]
    read = contents(data.formatter.code(["x = 1"], ["Go"]), data)
    assert data.formatter.tokenizer.decode(read[0]) == "x = 1"  # what TF-IDF reads: no instruction, no marker


def test_common_words_find_what_they_share_and_rare_ones_weigh_more():
    text, code = weighted([[5, 1], [6, 1]], [[5, 1, 1, 1], [6, 2], [1, 2]])
    assert torch.allclose(code.norm(dim=1), torch.ones(3, dtype=code.dtype)) and text.shape == (2, code.shape[1])
    scores = text @ code.T
    assert scores.argmax(1).tolist() == [0, 1]
    assert scores[0, 0] > scores[0, 2] > scores[0, 1] == 0  # 5 stands in one function, 1 in two; the second has neither


class Labelled(TextSource):
    classes = ("different", "clone")

    def read(self, split) -> list[LabelledText]:
        return [LabelledText("a = 1", "b = 2 + 3", 1), LabelledText("x" * 300, "y" * 300, 0)]


def test_pairs_of_functions_share_a_window(tokenizer):
    data = ClonePairs(Labelled(), str(tokenizer), max_length=21)
    batch = data.collate(Labelled().read("train"))
    special = data.tokenizer
    assert special.decode(batch["input_ids"][0][batch["attention_mask"][0] == 1]) == "<sep>a = 1<sep>b = 2 + 3<cls>"
    long = batch["input_ids"][1].tolist()
    assert len(long) == 21 and long.index(special.sep_token_id, 1) == 10 and long[-1] == special.cls_token_id
    assert batch["labels"].tolist() == [1, 0]


def test_a_batch_is_the_same_whoever_asks(tokenizer):
    assert batched([[1], [2, 3]], 0)["input_ids"].tolist() == [[0, 1], [2, 3]]
    data = pairs(tokenizer)
    one, other = ([data.draw(k, np.random.default_rng(k)) for k in range(8)] for _ in range(2))
    for a, b in zip(data.collate(one), data.collate(other), strict=True):
        assert a["input_ids"].equal(b["input_ids"])
