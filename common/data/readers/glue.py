"""GLUE's classification tasks (Wang et al. 2019): the hub's parquet, the benchmark's own TSVs, or CoLA's release."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

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
        readers: list[tuple[Path, Callable[[Split], list[LabelledText]]]] = [
            (self.root / task, self._parquet),
            (self.root / self.layout.folder / "train.tsv", self._tsv),
        ]
        if task == "cola":
            readers.append((self.root / "raw", self._release))
        found = [reader for path, reader in readers if path.exists()]
        if not found:
            raise UserError(f"no {self.layout.folder} in {self.root}.\n{ABOUT}")
        self._read = found[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.layout.classes

    def read(self, split: Split) -> list[LabelledText]:
        return self._read("train" if split == "train" else "val")

    def _parts(self, split: Split, dev: str) -> list[str]:
        """Names of a split's files; `dev` is what development sets are called."""
        if split == "train":
            return ["train"]
        return [f"{dev}_{part}" for part in self.dev] if self.task == "mnli" else [dev]

    def _parquet(self, split: Split) -> list[LabelledText]:
        folder, examples = self.root / self.task, []
        for part in self._parts(split, "validation"):
            files = sorted(folder.glob(f"{part}-*.parquet"))
            if not files:
                raise UserError(f"no {part}-*.parquet in {folder}.\n{ABOUT}")
            examples += [example for file in files for example in self._rows(file)]
        return examples

    def _rows(self, file: Path) -> Iterator[LabelledText]:
        text, pair = self.layout.text, self.layout.pair
        try:
            table = pq.read_table(file)
        except pa.ArrowInvalid as error:
            raise UserError(f"{file} is not a parquet file, or was cut off: {error}. Download it again.") from error
        for name in (text, pair, "label"):
            if name and name not in table.column_names:
                raise UserError(f"{file} has no column '{name}', only {', '.join(table.column_names)}.\n{ABOUT}")
        for row in table.to_pylist():
            yield LabelledText(row[text], row[pair] if pair else None, row["label"])

    def _tsv(self, split: Split) -> list[LabelledText]:
        folder = self.root / self.layout.folder
        files = [folder / f"{part}.tsv" for part in self._parts(split, "dev")]
        return [example for file in files for example in self._lines(file, header=self.task != "cola")]

    def _release(self, split: Split) -> list[LabelledText]:
        names = ["in_domain_train"] if split == "train" else ["in_domain_dev", "out_of_domain_dev"]
        files = [self.root / "raw" / f"{name}.tsv" for name in names]
        return [example for file in files for example in self._lines(file, header=False)]

    def _lines(self, file: Path, header: bool) -> Iterator[LabelledText]:
        if not file.is_file():
            raise UserError(f"{file} is missing.\n{ABOUT}")
        rows = [line.rstrip("\r").split("\t") for line in file.read_text("utf-8-sig").rstrip("\n").split("\n")]
        text, pair, label = self._columns(rows.pop(0), file) if header else (3, None, 1)
        broken = 0
        for row in rows:
            try:
                yield LabelledText(row[text], None if pair is None else row[pair], self._label(row[label]))
            except (IndexError, ValueError):
                broken += 1
                log.warning("%s: broken line %s", file, row)
                if broken > max(1, TOLERATED * len(rows)):
                    raise UserError(
                        f"{file}: more than 0.1 % of the lines are broken, such as {row}.\n{ABOUT}"
                    ) from None

    def _columns(self, names: list[str], file: Path) -> tuple[int, int | None, int]:
        wanted = (self.layout.tsv_text, self.layout.tsv_pair, self.layout.tsv_label)
        for name in wanted:
            if name and name not in names:
                raise UserError(f"{file} has no column '{name}', only {', '.join(names)}.\n{ABOUT}")
        text, pair, label = (names.index(name) if name else None for name in wanted)
        assert text is not None and label is not None
        return text, pair, label

    def _label(self, word: str) -> int:
        """A class's index, which the file gives as a name or as a digit."""
        label = self.classes.index(word) if word in self.classes else int(word)
        if not 0 <= label < len(self.classes):
            raise ValueError(word)
        return label
