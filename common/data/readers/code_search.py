"""Functions with descriptions as data sets of code search store them: CodeSearchNet's JSONL, triplets in parquet."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.data.code import Function, FunctionSource
from common.data.text import Split
from common.errors import UserError
from common.paths import expand

NAMES = {"python": "Python", "java": "Java", "javascript": "JavaScript", "go": "Go", "ruby": "Ruby", "php": "PHP"}

ABOUT = """CodeSearchNet (MIT for the collection, each function under its repository's terms).
  from: github.com/microsoft/CodeXGLUE, Code-Text/code-to-text (the cleaned six languages), or CodeSearchNet itself
  expected: <root>/<language>/{train,valid,test}.jsonl as CodeXGLUE's script leaves them,
    or <root>/<language>/final/jsonl/{train,valid,test}/*.jsonl.gz as CodeSearchNet's archives unpack"""


class CodeSearchNet(FunctionSource):
    """A language of CodeSearchNet: a docstring and its function a line; `code_b`, where there is one, is the twin.

    Args:
        root: folder of the languages; `$DATA_ROOT` is replaced.
        language: folder of one of them.
        limit: use the first so many functions of a split.

    Raises:
        UserError: nothing in one of the two layouts, or a line that is not such an object.
    """

    def __init__(self, root: str, language: str, limit: int | None = None):
        self.folder, self.language, self.limit = expand(root, "root of CodeSearchNet") / language, language, limit

    def read(self, split: Split) -> list[Function]:
        part = "valid" if split == "val" else split
        plain, archive = self.folder / f"{part}.jsonl", self.folder / "final/jsonl" / part
        files = [plain] if plain.is_file() else sorted(archive.glob("*.jsonl.gz"))
        if not files:
            raise UserError(f"no {part} split in {self.folder}.\n{ABOUT}")
        return [self._function(row, where) for file in files for where, row in json_lines(file)][: self.limit]

    def _function(self, row: dict[str, Any], where: str) -> Function:
        try:
            name = NAMES.get(self.language, self.language)
            words = row.get("docstring_tokens") or row["docstring"].split()
            text = " ".join(words)
            place = row.get("url") or row.get("path") or where
            return Function(text, row["code"], row.get("code_b", ""), name, name, place)
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{where} is not a function with `code` and `docstring` ({error}).\n{ABOUT}") from error


class CodeTriplets(FunctionSource):
    """Triplets of a description and two versions of its code, a row each, in one or several parquet files.

    SynthCoNL is stored so. Its columns' names are not documented where we could read them: a wrong name is an error
    that lists those of the file. Without splits of its own, the last `held_out` rows are for validation.

    Args:
        files: a file, or a pattern as "$DATA_ROOT/SynthCoNL/data/train-*.parquet".
        text: column of the descriptions.
        code: column of the first version.
        twin: column of the second.
        language: column of the first version's language; None where there is none.
        twin_language: column of the second's.
        held_out: rows for validation, taken from the end.
    """

    def __init__(
        self,
        files: str,
        text: str = "text",
        code: str = "code_a",
        twin: str = "code_b",
        language: str | None = None,
        twin_language: str | None = None,
        held_out: int = 0,
    ):
        path = expand(files, "files")
        self.files = sorted(path.parent.glob(path.name))
        if not self.files:
            raise UserError(f"no parquet files at {path}: download the data set's parquet files from the hub")
        self.columns = (text, code, twin, language, twin_language)
        self.held_out = held_out

    def read(self, split: Split) -> list[Function]:
        rows = [function for file in self.files for function in self._rows(file)]
        end = len(rows) - self.held_out
        return rows[:end] if split == "train" else rows[end:]

    def _rows(self, file: Path) -> Iterator[Function]:
        table = read_columns(file, [name for name in self.columns if name])
        columns = (table[name].to_pylist() if name else [""] * len(table) for name in self.columns)
        for number, found in enumerate(zip(*columns, strict=True)):
            text, code, twin, language, twin_language = (value or "" for value in found)
            yield Function(text, code, twin, language, twin_language, f"{file.name}:{number}")


def read_columns(file: Path, names: list[str]) -> pa.Table:
    """Columns of a parquet file.

    Raises:
        UserError: damaged, or without one of the columns.
    """
    try:
        known = pq.read_schema(file).names
        if missing := [name for name in names if name not in known]:
            raise UserError(f"{file} has no column '{missing[0]}', only {', '.join(known)}: name the right one")
        return pq.read_table(file, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot read {file} as parquet ({error}): download it again") from error


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file, gzipped or not, each with "file:line"; empty lines are passed over.

    Raises:
        UserError: missing, cut off, or a line that is no JSON object.
    """
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("not an object")
                    yield f"{file}:{number}", row
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read after line {max(0, number - 1)} ({error}): download it again"
        ) from error
