"""Sentence similarity as SentEval measures it: the SemEval tasks of 2012 to 2016, the STS benchmark, SICK-R.

Scores are divided by 5 and lie in [0, 1]. No reader takes quotation marks for anything but text.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from common.data.files import is_file, is_folder, lines_of, matching, shown
from common.data.pairs import Pair, PairSource
from common.data.text import Split
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)

Year = Literal[2012, 2013, 2014, 2015, 2016]
SUBSETS: dict[int, tuple[str, ...]] = {
    2012: ("MSRpar", "MSRvid", "OnWN", "SMTeuroparl", "SMTnews"),
    2013: ("FNWN", "OnWN", "headlines"),  # and SMT, which is not free and which SentEval leaves out
    2014: ("OnWN", "deft-forum", "deft-news", "headlines", "images", "tweet-news"),
    2015: ("answers-forums", "answers-students", "belief", "headlines", "images"),
    2016: ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
ABOUT_STS = """SemEval STS {year} (each subset under its source's terms).
  from: SentEval's get_transfer_data script, ixa2.si.ehu.eus/stswiki, or github.com/brmson/dataset-sts
  expected: <root>/STS{short}-en-test/STS.input.<subset>.txt and STS.gs.<subset>.txt as SentEval and SemEval have them,
    or <root>/{year}/<subset>.test.tsv (score, sentence, sentence), or <root>/{year}.test.tsv with all subsets"""
ABOUT_STSB = """STS benchmark (its parts under their sources' terms).
  from: ixa2.si.ehu.eus/stswiki (Stsbenchmark.tar.gz), or SentEval's get_transfer_data script
  expected: <root>/sts-{train,dev,test}.csv (tabs: genre, file, year, number, score, sentence, sentence, ...), or
    <root>/stsbenchmark.tsv.gz (columns split, score, sentence1, sentence2) as sbert.net has it"""
ABOUT_SICK = """SICK (CC BY-NC-SA 3.0).
  from: SemEval 2014 task 1, or SentEval's get_transfer_data script
  expected: <root>/SICK_{train,trial,test_annotated}.txt (tabs, with a header)"""

Row = tuple[int, list[str]]
"""Number of a line, and what should be a score ("" where nobody gave one) and two sentences."""
SCORE = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+", re.ASCII)


class SemEvalSTS(PairSource):
    """A year's test sets, all subsets in one: one correlation over all pairs ("all" in SentEval's words).

    `train` has all pairs without scores, those that nobody scored included (2015, 2016); `val` has none.

    Args:
        year: of the task.
        root: folder of the tasks; `$DATA_ROOT` is replaced.

    Raises:
        UserError: nothing in one of the known layouts, or a line that is not in its format.
    """

    def __init__(self, year: Year, root: str):
        self.year, self.root = year, expand(root, "root of SemEval STS")

    def read(self, split: Split) -> list[Pair]:
        if split == "val":
            return []
        pairs = [pair for file, rows in self._files() for pair in checked(rows, file)]
        return [Pair(a, b) for a, b, _ in pairs] if split == "train" else [p for p in pairs if p.score is not None]

    def missing(self) -> list[str]:
        """Subsets that are not there; with one missing, a year's score cannot be compared with published ones."""
        folder = self._folder()
        if folder is None:
            return []
        there = [name for name in SUBSETS[self.year] if matching(folder / f"*{name}.*")]
        return [name for name in SUBSETS[self.year] if name not in there]

    def _folder(self) -> Path | None:
        names = (f"STS{self.year % 100}-en-test", str(self.year))
        return next((self.root / name for name in names if is_folder(self.root / name)), None)

    def _files(self) -> Iterator[tuple[Path, Iterator[Row]]]:
        whole, folder = self.root / f"{self.year}.test.tsv", self._folder()
        if is_file(whole):
            yield whole, scored_lines(whole)
            return
        files = matching(folder / "*.test.tsv") or matching(folder / "STS*.input.*.txt") if folder else []
        files = [file for file in files if ".ALL." not in file.name]  # the subsets once more, all in one file
        if not files:
            raise UserError(
                f"no STS {self.year} in {self.root}.\n{ABOUT_STS.format(year=self.year, short=self.year % 100)}"
            )
        if absent := self.missing():
            log.warning(
                "STS %d lacks %s: its score is not comparable with published ones", self.year, ", ".join(absent)
            )
        for file in files:
            yield file, scored_lines(file) if file.suffix == ".tsv" else aligned_lines(file)


class STSBenchmark(PairSource):
    """The STS benchmark's three parts.

    Args:
        root: its folder; `$DATA_ROOT` is replaced.

    Raises:
        UserError: no file in one of the known layouts, or a line that is not in its format.
    """

    def __init__(self, root: str):
        self.root = expand(root, "root of the STS benchmark")

    def read(self, split: Split) -> list[Pair]:
        part = "dev" if split == "val" else split
        file, packed = self.root / f"sts-{part}.csv", self.root / "stsbenchmark.tsv.gz"
        if is_file(file):
            rows: Iterator[Row] = ((number, line.split("\t")[4:7]) for number, line in enumerate(lines_of(file), 1))
        elif is_file(packed):
            file, table = packed, columns(packed, ("split", "score", "sentence1", "sentence2"))
            rows = ((number, fields[1:]) for number, fields in table if fields[:1] == [part])
        else:
            raise UserError(f"no STS benchmark in {self.root}: {file.name} is missing.\n{ABOUT_STSB}")
        return list(checked(rows, file, scored=True))


class Sick(PairSource):
    """SICK's relatedness scores, from 1 to 5 before they are divided; `val` is the trial set.

    Args:
        root: its folder; `$DATA_ROOT` is replaced.

    Raises:
        UserError: a file is missing, or a line is not in its format.
    """

    def __init__(self, root: str):
        self.root = expand(root, "root of SICK")

    def read(self, split: Split) -> list[Pair]:
        file = self.root / f"SICK_{ {'train': 'train', 'val': 'trial', 'test': 'test_annotated'}[split] }.txt"
        if not is_file(file):
            raise UserError(f"no SICK in {self.root}: {file.name} is missing.\n{ABOUT_SICK}")
        rows = columns(file, ("relatedness_score", "sentence_A", "sentence_B"))
        return list(checked(rows, file, scored=True))


def scored_lines(file: Path) -> Iterator[Row]:
    """`score <tab> sentence <tab> sentence`."""
    for number, line in enumerate(lines_of(file), start=1):
        yield number, line.split("\t")[:3]


def aligned_lines(file: Path) -> Iterator[Row]:
    """`STS.input.<subset>.txt` (pairs, and remarks in 2016) and `STS.gs.<subset>.txt` (a score or nothing) in step."""
    gold = file.with_name(file.name.replace(".input.", ".gs."))
    if not is_file(gold):
        raise UserError(f"{gold} is missing: it has the scores of {file.name}")
    pairs, scores = lines_of(file), lines_of(gold)
    unscored = lines_of(gold, keep_blank=True)[len(scores) : len(pairs)]  # the last pairs may have no score
    if len(pairs) != len(scores + unscored):
        raise UserError(
            f"{file} has {len(pairs)} lines and {gold.name} {len(scores)}: they belong to different releases"
        )
    for number, (pair, score) in enumerate(zip(pairs, scores + unscored, strict=True), start=1):
        yield number, [score, *pair.split("\t")[:2]]


def columns(file: Path, names: tuple[str, ...]) -> Iterator[Row]:
    """Columns of a table with a header, by name."""
    header, *lines = (line.split("\t") for line in lines_of(file))
    if absent := [name for name in names if name not in header]:
        raise UserError(f"{file} has no column {', '.join(absent)}, only {shown(', '.join(header), 300)}")
    for number, fields in enumerate(lines, start=2):
        yield number, [fields[header.index(name)] for name in names if header.index(name) < len(fields)]


def checked(rows: Iterator[Row], file: Path, scored: bool = False) -> Iterator[Pair]:
    """The rows as pairs.

    Args:
        scored: every pair must have a score.

    Raises:
        UserError: a row that is not a score from 0 to 5 (or nothing) and two sentences, or no rows.
    """
    number = 0
    for number, fields in rows:
        score, a, b = (field.strip() for field in fields) if len(fields) == 3 else ("", "", "")
        known = SCORE.fullmatch(score)
        if not (a and b and (known or (score == "" and not scored))) or (known and not float(score) <= 5):
            raise UserError(
                f"{file}, line {number}, is not a score from 0 to 5 and two sentences: {shown(str(fields))}"
            )
        yield Pair(a, b, float(score) / 5 if known else None)
    if not number:
        raise UserError(f"{file} holds no pairs of this split: download it again")
