"""Pairs beside the STS sets: the paper's three tasks with classes (§3), and files of one's own."""

from collections.abc import Iterator
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Literal

from common.data.files import is_file, lines_of, matching, shown
from common.data.pairs import Pair, PairSource
from common.data.readers.glue import Glue
from common.data.readers.sts import columns
from common.data.records import table
from common.data.text import LabelledText, Split
from common.errors import UserError
from common.paths import expand

QQP_SIZES: dict[Split, int] = {"train": 10_000, "val": 1_000, "test": 10_000}
"""The first pairs of each of its files (§4)."""
QNLI_TRAIN, QNLI_VAL = 10_000, 1_000
"""The first of the training set; the first of the development set, whose others are the test set (§4)."""
ABOUT_QQP = """Quora Question Pairs (Quora's terms of service).
  from: sbert.net/datasets/quora-IR-dataset.zip
  expected: <root>/quora-IR-dataset/classification/{train,dev,test}_pairs.tsv (question1, question2, is_duplicate)"""
ABOUT_MRPC = """MRPC's test set (Microsoft's research licence).
  from: huggingface.co/datasets/nyu-mll/glue (mrpc), or the Microsoft Research Paraphrase Corpus
  expected: <root>/glue/mrpc/test-*.parquet, or <root>/glue/MRPC/msr_paraphrase_test.txt"""
ABOUT_PAIRS = """A line of such a file is two sentences, or two sentences and a number, with tabs between them; or two
sentences with || between them."""


class PairTask(PairSource):
    """Two questions that ask the same (QQP), a sentence that answers a question (QNLI), paraphrases (MRPC); 1 or 0.

    Sizes and splits are the paper's. `train` has all pairs without their classes, those of the other splits among them:
    21,000 of QQP, 15,463 of QNLI, 5,801 of MRPC (Table 15).

    Args:
        task: which.
        root: folder with `quora-IR-dataset` and `glue`; `$DATA_ROOT` is replaced.

    Raises:
        UserError: a file is missing, or not in its format.
    """

    binary = True

    def __init__(self, task: Literal["qqp", "qnli", "mrpc"], root: str):
        self.task, self.root = task, expand(root, "root of the classification tasks")

    def read(self, split: Split) -> list[Pair]:
        read = {"qqp": self._qqp, "qnli": self._qnli, "mrpc": self._mrpc}[self.task]
        if split == "train":
            return [Pair(a, b) for part in ("train", "val", "test") for a, b, _ in read(part)]
        return [Pair(a, b, score) for a, b, score in read(split)]

    def _qqp(self, split: Split) -> Iterator[tuple[str, str, float]]:
        part = "dev" if split == "val" else split
        file = self.root / f"quora-IR-dataset/classification/{part}_pairs.tsv"
        if not is_file(file):
            raise UserError(f"{file} is missing.\n{ABOUT_QQP}")
        for number, fields in islice(columns(file, ("question1", "question2", "is_duplicate")), QQP_SIZES[split]):
            yield classified(fields, file, number, ABOUT_QQP)

    def _qnli(self, split: Split) -> Iterator[tuple[str, str, float]]:
        source = Glue("qnli", str(self.root / "glue"))
        rows = source.rows("train" if split == "train" else "val")
        first, last = {"train": (0, QNLI_TRAIN), "val": (0, QNLI_VAL), "test": (QNLI_VAL, None)}[split]
        return pairs_of(islice(rows, first, last), source.classes.index("entailment"))

    def _mrpc(self, split: Split) -> Iterator[tuple[str, str, float]]:
        source = Glue("mrpc", str(self.root / "glue"))
        match = source.classes.index("equivalent")
        if split != "test":
            return pairs_of(source.rows(split), match)
        return pairs_of(mrpc_test(self.root / "glue"), match)


def pairs_of(rows: Iterator[LabelledText], match: int) -> Iterator[tuple[str, str, float]]:
    """Pairs with 1 for the class `match`, else 0."""
    for row in rows:
        yield row.text, row.pair or "", float(row.label == match)


def classified(fields: list[str], file: Path, number: int, about: str) -> tuple[str, str, float]:
    """A line's two sentences and class; UserError where it is something else."""
    first, second, label = (field.strip() for field in fields) if len(fields) == 3 else ("", "", "")
    if not (first and second) or label not in ("0", "1"):
        raise UserError(f"{file}, line {number}, is not two sentences and 0 or 1: {shown(str(fields))}\n{about}")
    return first, second, float(label)


def mrpc_test(root: Path) -> Iterator[LabelledText]:
    """MRPC's test set, whose labels are public: the hub's file, or that of the corpus itself."""
    files, original = matching(root / "mrpc/test-*.parquet"), root / "MRPC/msr_paraphrase_test.txt"
    for file in files:
        found = table(file, {"sentence1": "text", "sentence2": "text", "label": "whole number"}, ABOUT_MRPC)
        yield from map(LabelledText, found["sentence1"], found["sentence2"], found["label"])
    if files:
        return
    if not is_file(original):
        raise UserError(f"no test set of MRPC in {root}.\n{ABOUT_MRPC}")
    for number, fields in columns(original, ("#1 String", "#2 String", "Quality")):
        first, second, label = classified(fields, original, number, ABOUT_MRPC)
        yield LabelledText(first, second, int(label))


class PairFile(PairSource):
    """One's own pairs, the same for every split: two sentences a line, with a tab or "||" between, and perhaps a score.

    Args:
        path: the file; `$DATA_ROOT` is replaced. May be gzipped.
        binary: scores are 1 for a match and 0 for none.

    Raises:
        UserError: no such file, or a line that is not in this format.
    """

    def __init__(self, path: str, binary: bool = False):
        self.path, self.binary = expand(path, "file of pairs"), binary

    def read(self, split: Split) -> list[Pair]:
        if not is_file(self.path):
            raise UserError(f"no file {self.path}.\n{ABOUT_PAIRS}")
        pairs = [self._pair(number, line) for number, line in enumerate(lines_of(self.path), 1) if line.strip()]
        if not pairs:
            raise UserError(f"{self.path} holds no pairs.\n{ABOUT_PAIRS}")
        unscored = next((number for number, pair in enumerate(pairs, 1) if pair.score is None), None)
        if split != "train" and unscored:
            raise UserError(f"{self.path}, pair {unscored}, has no score, and is to be validated on.\n{ABOUT_PAIRS}")
        return pairs

    def _pair(self, number: int, line: str) -> Pair:
        fields = [field.strip() for field in line.split("\t" if "\t" in line else "||")]
        try:
            a, b, *rest = fields
            score = float(rest[0]) if rest and len(rest) == 1 else None
        except ValueError:
            a = b = ""
            score, rest = None, []
        if not (a and b) or len(rest) > 1 or (score is not None and not isfinite(score)):
            raise UserError(f"{self.path}, line {number}, is not a pair: {shown(line)}\n{ABOUT_PAIRS}")
        if self.binary and score not in (None, 0, 1):
            raise UserError(f"{self.path}, line {number}: {score:g} is neither 1 (a match) nor 0 (none)")
        return Pair(a, b, score)
