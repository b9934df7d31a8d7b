"""Functions with descriptions as data sets of code search store them: CodeSearchNet's JSONL, triplets in parquet."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.code import Function, FunctionSource
from common.data.files import is_file, matching
from common.data.records import Column, Words, check_columns, json_lines, parquet, table
from common.data.text import AbsentSplit, Split
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

NAMES = {"python": "Python", "java": "Java", "javascript": "JavaScript", "go": "Go", "ruby": "Ruby", "php": "PHP"}

ABOUT = """CodeSearchNet (MIT for the collection, each function under its repository's terms).
  from: github.com/microsoft/CodeXGLUE, Code-Text/code-to-text (the cleaned six languages), or CodeSearchNet itself
  expected: <root>/<language>/{train,valid,test}.jsonl as CodeXGLUE's script leaves them,
    or <root>/<language>/final/jsonl/{train,valid,test}/*.jsonl.gz as CodeSearchNet's archives unpack;
    each line an object with `code` and `docstring`, or a list `docstring_tokens`"""
ABOUT_TRIPLETS = """Triplets of a description and two versions of its code, parquet files from the hub."""


@schema(config=STRICT, slots=True)
class Row:
    code: Words
    code_tokens: list[str] | None = None
    docstring: str | None = None
    docstring_tokens: list[str] | None = None
    code_b: str | None = None
    url: str | None = None
    path: str | None = None


ROW = TypeAdapter(Row)


class CodeSearchNet(FunctionSource):
    """A language of CodeSearchNet: a docstring and its function a line; `code_b`, where there is one, is the twin.

    The column `code` holds the docstring that is the query. So where there are `code_tokens`, which are without it, the
    function is these, joined by spaces. A `codebase.jsonl` beside the splits (the cleaned sets of GraphCodeBERT and
    UniXcoder have one) holds what a search ranks beyond the split's own functions.

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
        return list(islice(self.rows(split), self.limit))

    def rows(self, split: Split) -> Iterator[Function]:
        """What `read` gives, one by one."""
        yield from self._functions("valid" if split == "val" else split)

    def beyond(self, split: Split) -> list[Function]:
        known = {function.code for function in self.read(split)}
        if not is_file(self.folder / "codebase.jsonl"):
            return []
        return [function for function in self._functions("codebase") if function.code not in known]

    def _functions(self, part: str) -> Iterator[Function]:
        plain, archive = self.folder / f"{part}.jsonl", self.folder / "final/jsonl" / part
        files = [plain] if is_file(plain) else matching(archive / "*.jsonl.gz")
        if not files:
            raise AbsentSplit(f"no {part} split in {self.folder}.\n{ABOUT}")
        name = NAMES.get(self.language, self.language)
        for file in files:
            for where, row in json_lines(file, ROW, ABOUT):
                words = row.docstring_tokens or (row.docstring or "").split()
                if row.docstring is None and row.docstring_tokens is None:
                    raise UserError(f"{where} has neither `docstring` nor `docstring_tokens`.\n{ABOUT}")
                code = " ".join(row.code_tokens) if row.code_tokens else row.code
                yield Function(" ".join(words), code, row.code_b or "", name, name, row.url or row.path or where)


class CodeTriplets(FunctionSource):
    """Triplets of a description and two versions of its code, a row each, in one or several parquet files.

    SynthCoNL is stored so. Its columns' names are not documented where we could read them: a wrong name is an error
    that lists those of the file. Without splits of its own, the last `held_out` rows are for validation.

    Args:
        files: a file, or a pattern as "$DATA_ROOT/SynthCoNL/data/train-*.parquet".
        text: column of the descriptions.
        code: column of the first version.
        twin: column of the second; rows may have none.
        language: column of the first version's language; None where there is none.
        twin_language: column of the second's.
        held_out: rows for validation, taken from the end.

    Raises:
        UserError: no such files, damaged ones, other columns or types, or fewer rows than are held out.
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
        self.files = matching(path)
        if not self.files:
            raise UserError(f"no parquet files at {path}: download the data set's parquet files from the hub")
        self.columns = (text, code, twin, language, twin_language)
        kinds: tuple[Column, ...] = ("text", "text", "optional text", "optional text", "optional text")
        self.kinds = {name: kind for name, kind in zip(self.columns, kinds, strict=True) if name}
        self.held_out = held_out

    @classmethod
    def check(cls, files: str, **settings: Any) -> None:
        """Look at the columns of all files, which are too large to be read now."""
        source = cls(files, **settings)
        for file in source.files:
            with parquet(file) as opened:
                check_columns(file, opened.schema_arrow, source.kinds, ABOUT_TRIPLETS)
                if not opened.metadata.num_rows:
                    raise UserError(f"{file} has no rows: download it again.\n{ABOUT_TRIPLETS}")

    def read(self, split: Split) -> list[Function]:
        rows = [function for file in self.files for function in self._rows(file)]
        end = len(rows) - self.held_out
        if self.held_out < 0 or end < 0:
            raise UserError(
                f"held_out is {self.held_out}, but {self.files[0]} and those beside it have {len(rows)} rows"
            )
        return rows[:end] if split == "train" else rows[end:]

    def _rows(self, file: Path) -> Iterator[Function]:
        found = table(file, self.kinds, ABOUT_TRIPLETS)
        count = len(next(iter(found.values())))
        columns = (found[name] if name else [""] * count for name in self.columns)
        for number, (text, code, twin, *languages) in enumerate(zip(*columns, strict=True)):
            if not code.strip():
                raise UserError(f"{file}, row {number}, has no code in column '{self.columns[1]}'")
            first, second = (name or "" for name in languages)
            yield Function(text, code, twin or "", first, second, f"{file.name}:{number}")
