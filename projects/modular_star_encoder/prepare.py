"""Turn the standard library of the running Python into data: functions, repositories, a tokenizer. DATA=stdlib alone.

    python -m projects.modular_star_encoder.prepare predict \\
        --config projects/modular_star_encoder/configs/mini/prepare.yaml

Writes what the paper's data sets look like, so that the later stages read it as they read those: `pairs/*.parquet`
(triplets, as SynthCoNL), `code/python/{train,valid,test}.jsonl` (as CodeSearchNet), `repositories/*.parquet` (as The
Stack), `tokenizer/`, and `data.json`: the version of Python and a hash of the functions, which another version has
others of.
"""

import hashlib
import json
import platform
import sysconfig
from pathlib import Path
from typing import Any
from zlib import crc32

import lightning.pytorch as L
import pyarrow as pa
import pyarrow.parquet as pq
from torch.utils.data import DataLoader

from common.cli import main
from common.data.code import Repository
from common.data.readers.python_functions import Found, PythonFunction, read_folder, twin
from common.data.text import Split
from common.training.runs import write_json
from projects.modular_star_encoder.tokens import build_tokenizer

WITHOUT = ("test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "ensurepip", "lib-dynload", "config")
"""Tests, and packages that are data or stand apart."""
PARTS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
FEWEST_WORDS = 4  # of a description that says something
GROUP = 16  # repositories in a row group
ROW = 4  # files of a repository in a row


class Library(L.LightningDataModule):
    """The standard library's functions with descriptions, split by module.

    A module and its private twins (`pickle` and `_pickle`, `datetime` and `_pydatetime`) are in one split, which a hash
    of their name decides: other versions of Python have the same modules in the same splits.

    Args:
        tokens: size of the tokenizer's vocabulary.
        root: folder of the library; None for that of the running interpreter.
    """

    def __init__(self, tokens: int = 3000, root: str | None = None):
        super().__init__()
        self.tokens = tokens
        self.root = Path(root or sysconfig.get_path("stdlib"))

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([0])


class Preparation(L.LightningModule):
    """Reads, splits and writes."""

    run_dir: Path

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        data: Library = self.trainer.datamodule
        found = read_folder(data.root, WITHOUT)
        rows = described(found.functions)
        (self.run_dir / "pairs").mkdir(exist_ok=True)
        (self.run_dir / "code/python").mkdir(parents=True, exist_ok=True)
        for split, part in PARTS.items():
            chosen = [row for row in rows if split_of(row["path"]) == split]
            lines = "".join(f"{json.dumps(row)}\n" for row in chosen)
            (self.run_dir / "code/python" / f"{part}.jsonl").write_text(lines, encoding="utf-8")
            if split == "train":
                columns = {"docstring": "text", "code": "code_a", "code_b": "code_b"}
                table = pa.table({new: [row[old] for row in chosen] for old, new in columns.items()})
                pq.write_table(table, self.run_dir / "pairs" / "train.parquet")
        repositories = packages(found, "train")
        for split in ("train", "val"):
            write_repositories(self.run_dir / "repositories" / f"{split}.parquet", packages(found, split))
        texts = [text for repository in repositories for text in repository.files]
        build_tokenizer(texts, data.tokens).save_pretrained(self.run_dir / "tokenizer")
        write_json(self.run_dir / "data.json", facts(rows))


def module_of(path: str) -> str:
    """The top-level module of a file (or a "file:line"), without the marks of its private and pure-Python twins."""
    return path.split("/")[0].partition(":")[0].removesuffix(".py").lstrip("_").removeprefix("py")


def split_of(path: str) -> Split:
    """A tenth of the modules to validation, three twentieths to test."""
    share = crc32(module_of(path).encode()) % 20
    return "val" if share < 2 else "test" if share < 5 else "train"


def described(functions: list[PythonFunction]) -> list[dict[str, str]]:
    """Functions with a description and a body, as rows of CodeSearchNet and with a twin; each description once."""
    rows: dict[str, dict[str, str]] = {}
    for function in functions:
        if len(function.text.split()) >= FEWEST_WORDS and function.statements:
            row = {"repo": module_of(function.file), "path": f"{function.file}:{function.line}"}
            row |= {"func_name": function.name, "docstring": function.text}
            rows.setdefault(function.text, {**row, "code": function.code, "code_b": twin(function)})
    return list(rows.values())


def packages(found: Found, split: Split) -> list[Repository]:
    """A split's modules with their files, in rows of at most `ROW`: a large package comes up more often."""
    grouped: dict[str, list[str]] = {}
    for path, text in found.texts.items():
        if split_of(path) == split and text.strip():
            grouped.setdefault(module_of(path), []).append(text)
    rows = []
    for name, files in grouped.items():
        count = -(-len(files) // ROW)
        rows += [Repository(name, files[k::count]) for k in range(count)]
    return rows


def write_repositories(path: Path, repositories: list[Repository]) -> None:
    """Repositories in the layout of The Stack v2, once the contents are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"repo_name": r.name, "files": [{"content": text} for text in r.files]} for r in repositories]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=GROUP)


def facts(rows: list[dict[str, str]]) -> dict[str, Any]:
    """What the results depend on: the version of Python, and the functions it came with."""
    content = json.dumps(sorted(json.dumps(row, sort_keys=True) for row in rows))
    counts = {split: sum(split_of(row["path"]) == split for row in rows) for split in PARTS}
    return {
        "python": platform.python_version(),
        "functions": counts,
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
    }


if __name__ == "__main__":
    main(Preparation, Library)
