"""Clone detection as CodeXGLUE stores it: POJ-104 (programs by problem) and BigCloneBench (labelled pairs)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, StringConstraints, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import is_file, lines_of, shown
from common.data.records import Int, Words, json_lines
from common.data.text import AbsentSplit, LabelledText, Split, TextSource
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

ABOUT_POJ = """POJ-104 (each program under its author's terms).
  from: github.com/microsoft/CodeXGLUE, Code-Code/Clone-detection-POJ-104, whose script splits it
  expected: <root>/{train,valid,test}.jsonl with `code` and `label`, the problem (0 to 104)"""
ABOUT_BCB = """BigCloneBench as CodeXGLUE filtered it.
  from: github.com/microsoft/CodeXGLUE, Code-Code/Clone-detection-BigCloneBench/dataset
  expected: <root>/data.jsonl with `func` and `idx`, and <root>/{train,valid,test}.txt: two ids and 0 or 1, by tabs"""


class Program(NamedTuple):
    code: str
    label: int
    language: str = "C++"


@schema(config=STRICT, slots=True)
class PojRow:
    """The released files have the problem's number in quotes."""

    code: Words
    label: Annotated[int, Field(ge=0, le=104)] | Annotated[str, StringConstraints(pattern=r"^(\d|[1-9]\d|10[0-4])$")]


@schema(config=STRICT, slots=True)
class Method:
    func: Words
    idx: Int | Words


POJ_ROW, METHOD = TypeAdapter(PojRow), TypeAdapter(Method)


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
        return list(islice(self.rows(split), self.limit))

    def rows(self, split: Split) -> Iterator[Program]:
        """What `read` gives, one by one."""
        file = _there(self.root / f"{'valid' if split == 'val' else split}.jsonl", "POJ-104", ABOUT_POJ)
        for _, row in json_lines(file, POJ_ROW, ABOUT_POJ):
            yield Program(row.code, int(row.label))


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
        return list(islice(self.rows(split), self.limit))

    def rows(self, split: Split) -> Iterator[LabelledText]:
        """What `read` gives, one by one."""
        methods = _there(self.root / "data.jsonl", "BigCloneBench", ABOUT_BCB)
        pairs = _there(self.root / f"{'valid' if split == 'val' else split}.txt", "BigCloneBench", ABOUT_BCB)
        if not self._methods:
            self._methods = _by_id(methods)
        for number, line in enumerate(lines_of(pairs), start=1):
            try:
                first, second, label = line.split("\t")
                yield LabelledText(self._methods[first], self._methods[second], ("0", "1").index(label.strip()))
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{pairs}, line {number}: not two known ids and 0 or 1: {shown(line)!r}.\n{ABOUT_BCB}"
                ) from error


def _by_id(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for where, row in json_lines(file, METHOD, ABOUT_BCB):
        if found.setdefault(str(row.idx), row.func) != row.func:
            raise UserError(f"{where}: `idx` {row.idx} is another method's as well.\n{ABOUT_BCB}")
    return found


def _there(file: Path, name: str, about: str) -> Path:
    if not is_file(file):
        raise AbsentSplit(f"no {name} in {file.parent}: {file.name} is missing.\n{about}")
    return file
