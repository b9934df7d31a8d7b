"""Clone detection as CodeXGLUE stores it: POJ-104 (programs by problem) and BigCloneBench (labelled pairs)."""

from typing import NamedTuple

from common.data.readers.code_search import json_lines
from common.data.text import LabelledText, Split, TextSource
from common.errors import UserError
from common.paths import expand

ABOUT_POJ = """POJ-104 (each program under its author's terms).
  from: github.com/microsoft/CodeXGLUE, Code-Code/Clone-detection-POJ-104, whose script splits it
  expected: <root>/{train,valid,test}.jsonl with `code` and `label`, the problem"""
ABOUT_BCB = """BigCloneBench as CodeXGLUE filtered it.
  from: github.com/microsoft/CodeXGLUE, Code-Code/Clone-detection-BigCloneBench/dataset
  expected: <root>/data.jsonl with `func` and `idx`, and <root>/{train,valid,test}.txt: two ids and 0 or 1, by tabs"""


class Program(NamedTuple):
    code: str
    label: int
    language: str = "C++"


class Poj104:
    """Programs in C and C++ with the number of the problem that each solves.

    Args:
        root: folder of the three files; `$DATA_ROOT` is replaced.
        limit: use the first so many programs of a split.

    Raises:
        UserError: a file is missing, or a line is not such an object.
    """

    def __init__(self, root: str, limit: int | None = None):
        self.root, self.limit = expand(root, "root of POJ-104"), limit

    def read(self, split: Split) -> list[Program]:
        file = self.root / f"{'valid' if split == 'val' else split}.jsonl"
        if not file.is_file():
            raise UserError(f"no POJ-104 in {self.root}: {file.name} is missing.\n{ABOUT_POJ}")
        found = []
        for where, row in json_lines(file):
            try:
                found.append(Program(row["code"], int(row["label"])))
            except (KeyError, ValueError, TypeError) as error:
                raise UserError(f"{where} is not a program with `code` and `label` ({error}).\n{ABOUT_POJ}") from error
        return found[: self.limit]


class BigCloneBench(TextSource):
    """Pairs of Java methods: whether they do the same.

    Args:
        root: folder of the four files; `$DATA_ROOT` is replaced.
        limit: use the first so many pairs of a split.

    Raises:
        UserError: a file is missing, a line is in another format, or a pair names a method that is not there.
    """

    classes = ("different", "clone")

    def __init__(self, root: str, limit: int | None = None):
        self.root, self.limit = expand(root, "root of BigCloneBench"), limit
        self._methods: dict[str, str] = {}

    def read(self, split: Split) -> list[LabelledText]:
        pairs = self.root / f"{'valid' if split == 'val' else split}.txt"
        for file in (self.root / "data.jsonl", pairs):
            if not file.is_file():
                raise UserError(f"no BigCloneBench in {self.root}: {file.name} is missing.\n{ABOUT_BCB}")
        if not self._methods:
            self._methods = {
                str(row.get("idx")): row.get("func", "") for _, row in json_lines(self.root / "data.jsonl")
            }
        found = []
        for number, line in enumerate(pairs.read_text().splitlines(), start=1):
            try:
                first, second, label = line.split("\t")
                found.append(LabelledText(self._methods[first], self._methods[second], ("0", "1").index(label.strip())))
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{pairs}, line {number}: not two known ids and 0 or 1: {line!r}.\n{ABOUT_BCB}"
                ) from error
        return found[: self.limit]
