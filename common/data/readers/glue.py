"""GLUE's classification tasks (Wang et al. 2019): the hub's parquet, the benchmark's own TSVs, or CoLA's release."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.data.files import is_file, is_folder, lines_of, matching, shown
from common.data.records import Column, table
from common.data.text import LabelledText, Split, TextSource
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)

Task = Literal["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2"]
TOLERATED = 0.001  # of the lines of a TSV; QQP's has a few broken ones

ABOUT = """GLUE (each task under its own terms).
  from: huggingface.co/datasets/nyu-mll/glue, or gluebenchmark.com/tasks
  expected: <root>/{cola,mnli,...}/{train,validation}-*.parquet as on the hub,
    or <root>/{CoLA,MNLI,MRPC,QNLI,QQP,RTE,SST-2}/{train,dev}.tsv as the benchmark's archives unpack,
    or, for CoLA alone, <root>/raw/{in_domain_train,in_domain_dev,out_of_domain_dev}.tsv as its authors release it"""


@dataclass(frozen=True)
class Layout:
    """Where a task's fields stand: names of columns, on the hub and in the TSVs' header (CoLA's has none)."""

    folder: str
    text: str
    pair: str | None
    classes: tuple[str, ...]
    tsv_text: str = ""
    tsv_pair: str = ""
    tsv_label: str = "label"


ENTAILMENT = ("entailment", "not_entailment")
TASKS: dict[Task, Layout] = {
    "cola": Layout("CoLA", "sentence", None, ("unacceptable", "acceptable")),
    "mnli": Layout(
        "MNLI",
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        "sentence1",
        "sentence2",
        "gold_label",
    ),
    "mrpc": Layout(
        "MRPC", "sentence1", "sentence2", ("not_equivalent", "equivalent"), "#1 String", "#2 String", "Quality"
    ),
    "qnli": Layout("QNLI", "question", "sentence", ENTAILMENT, "question", "sentence"),
    "qqp": Layout(
        "QQP", "question1", "question2", ("not_duplicate", "duplicate"), "question1", "question2", "is_duplicate"
    ),
    "rte": Layout("RTE", "sentence1", "sentence2", ENTAILMENT, "sentence1", "sentence2"),
    "sst2": Layout("SST-2", "sentence", None, ("negative", "positive"), "sentence"),
}


class Glue(TextSource):
    """A task's training and development sets. The test sets' labels are not public: `test` is the development set too.

    Args:
        task: name, as on the hub.
        root: folder of the benchmark; `$DATA_ROOT` is replaced.
        dev: which of MNLI's two development sets; both, one after the other, by default.

    Raises:
        UserError: nothing in one of the known layouts, or more than 0.1 % broken lines.
    """

    def __init__(self, task: Task, root: str, dev: Literal["matched", "mismatched", "both"] = "both"):
        self.task, self.layout = task, TASKS[task]
        self.root = expand(root, "root of GLUE")
        self.dev = ("matched", "mismatched") if dev == "both" else (dev,)
        self._rows: Callable[[Split], Iterator[LabelledText]]
        if matching(self.root / task / "*.parquet"):
            self._rows = self._parquet
        elif is_file(self.root / self.layout.folder / "train.tsv"):
            self._rows = self._tsv
        elif task == "cola" and is_folder(self.root / "raw"):
            self._rows = self._release
        else:
            raise UserError(f"no {self.layout.folder} in {self.root}.\n{ABOUT}")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.layout.classes

    def read(self, split: Split) -> list[LabelledText]:
        return list(self.rows(split))

    def rows(self, split: Split) -> Iterator[LabelledText]:
        """What `read` gives, one by one."""
        return self._rows("train" if split == "train" else "val")

    def _parts(self, split: Split, dev: str) -> list[str]:
        """Names of a split's files; `dev` is what development sets are called."""
        if split == "train":
            return ["train"]
        return [f"{dev}_{part}" for part in self.dev] if self.task == "mnli" else [dev]

    def _parquet(self, split: Split) -> Iterator[LabelledText]:
        for part in self._parts(split, "validation"):
            files = matching(self.root / self.task / f"{part}-*.parquet")
            if not files:
                raise UserError(f"no {part}-*.parquet in {self.root / self.task}.\n{ABOUT}")
            for file in files:
                yield from self._table(file)

    def _table(self, file: Path) -> Iterator[LabelledText]:
        text, pair = self.layout.text, self.layout.pair
        columns: dict[str, Column] = {text: "text", **({pair: "text"} if pair else {}), "label": "whole number"}
        found = table(file, columns, ABOUT)
        pairs = found[pair] if pair else [None] * len(found[text])
        for number, example in enumerate(zip(found[text], pairs, found["label"], strict=True)):
            if not 0 <= example[2] < len(self.classes):
                hint = "; test sets have no labels" if example[2] == -1 else ""
                raise UserError(
                    f"{file}, row {number}: label {example[2]} is none of 0 to {len(self.classes) - 1}{hint}.\n{ABOUT}"
                )
            yield LabelledText(*example)

    def _tsv(self, split: Split) -> Iterator[LabelledText]:
        for part in self._parts(split, "dev"):
            yield from self._lines(self.root / self.layout.folder / f"{part}.tsv", header=self.task != "cola")

    def _release(self, split: Split) -> Iterator[LabelledText]:
        for name in ["in_domain_train"] if split == "train" else ["in_domain_dev", "out_of_domain_dev"]:
            yield from self._lines(self.root / "raw" / f"{name}.tsv", header=False)

    def _lines(self, file: Path, header: bool) -> Iterator[LabelledText]:
        if not is_file(file):
            raise UserError(f"{file} is missing.\n{ABOUT}")
        rows = [line.split("\t") for line in lines_of(file)]
        text, pair, label = self._columns(rows.pop(0), file) if header else (3, None, 1)
        indices = {word: k for k, name in enumerate(self.classes) for word in (name, str(k))}
        broken = 0
        for number, row in enumerate(rows, start=1 + header):
            try:
                yield LabelledText(row[text], None if pair is None else row[pair], indices[row[label]])
            except (IndexError, KeyError):
                broken += 1
                line = shown("\t".join(row))
                log.warning("%s, broken line %d: %s", file, number, line)
                if broken > max(1, TOLERATED * len(rows)):
                    raise UserError(
                        f"{file}: more than 0.1 % of the lines are broken, such as line {number}: {line}\n{ABOUT}"
                    ) from None
        if broken == len(rows):
            raise UserError(f"{file} has no examples: download it again.\n{ABOUT}")

    def _columns(self, names: list[str], file: Path) -> tuple[int, int | None, int]:
        wanted = (self.layout.tsv_text, self.layout.tsv_pair, self.layout.tsv_label)
        for name in wanted:
            if name and name not in names:
                raise UserError(f"{file} has no column '{name}', only {shown(', '.join(names), 300)}.\n{ABOUT}")
        text, pair, label = (names.index(name) if name else None for name in wanted)
        assert text is not None and label is not None
        return text, pair, label
