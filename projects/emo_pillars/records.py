"""What the pipeline reads and writes: plots, comments, and JSON lines as the released data set has them."""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.data.files import is_file, lines_of, shown
from common.data.readers.goemotions import GoEmotions
from common.data.text import LabelledText, Split, TextSource, scored
from common.errors import UserError
from common.paths import expand
from projects.emo_pillars.grammar import generator, plot
from projects.emo_pillars.taxonomy import CUT, GOEMOTIONS, REMAP, mapped, targets

Record = dict[str, Any]
FILES: dict[Split, str] = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}
ABOUT = """Emo Pillars, or what the stages of projects.emo_pillars.synthesize have written.
  from: huggingface.co/datasets/alex-shvets/EmoPillars (hf download --repo-type dataset --local-dir)
  expected: train.jsonl, dev.jsonl, test.jsonl; a JSON object a line with utterance, plot_id, all_emotions_mapped or
    all_emotions (pairs of an emotion and its level), and the fields that the config names for contexts"""
ABOUT_PLOTS = """WikiPlots.
  from: github.com/markriedl/WikiPlots, which says where the archive is
  expected: plots (a sentence a line, <EOS> after each plot) and titles (a title a line), beside each other"""


def read_jsonl(file: Path, about: str = ABOUT) -> Iterator[Record]:
    """The objects of a file, line by line; UserError for what is none."""
    if not is_file(file):
        raise UserError(f"no {file.name} in {file.parent}.\n{about}")
    for number, line in enumerate(lines_of(file), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # RecursionError: brackets without an end
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{file}, line {number}, is no JSON object: {shown(line)}\n{about}")
        yield found


class RecordSource(ABC):
    """Where a step of the pipeline begins."""

    @abstractmethod
    def read(self, seed: int) -> list[Record]:
        """All records; each has an `id` of its own. Made-up ones depend on the seed."""


class Written(RecordSource):
    """What an earlier step has written.

    Args:
        path: its records.jsonl.
    """

    def __init__(self, path: str):
        self.path = path

    def read(self, seed: int) -> list[Record]:
        return list(read_jsonl(expand(self.path, "path of the records")))


class StoryPlots(RecordSource):
    """Plots of the grammar's world.

    Args:
        count: how many.
        told: False gives characters without a plot.
    """

    def __init__(self, count: int, told: bool = True):
        self.count, self.told = count, told

    def read(self, seed: int) -> list[Record]:
        plots = [plot(generator("plot", seed, k)) for k in range(self.count)]
        return [{"id": str(k), "plot_id": k, "plot": text, "told": self.told} for k, text in enumerate(plots)]


class WikiPlots(RecordSource):
    """Plots of books and films from Wikipedia.

    Args:
        root: folder of `plots` and `titles`.
        count: how many, drawn once for all (the paper: 2,000 of 113,000).
        told: False gives characters without a plot.
    """

    def __init__(self, root: str, count: int = 2000, told: bool = True):
        self.root, self.count, self.told = expand(root, "root of WikiPlots"), count, told

    def read(self, seed: int) -> list[Record]:
        file = self.root / "plots"
        if not is_file(file):
            raise UserError(f"no plots in {self.root}.\n{ABOUT_PLOTS}")
        texts = [" ".join(part.split()) for part in "\n".join(lines_of(file)).split("<EOS>")]
        texts = [text for text in texts if text]
        if len(texts) < self.count:
            raise UserError(f"{file} holds {len(texts)} plots, {self.count} are asked for: lower data.source.count")
        chosen = np.sort(np.random.default_rng(0).permutation(len(texts))[: self.count])
        return [{"id": str(k), "plot_id": int(k), "plot": texts[k], "told": self.told} for k in chosen]


class Comments(RecordSource):
    """The second half of GoEmotions' training comments, and the validation comments, without labels, to be graded.

    Args:
        root: folder of GoEmotions.
    """

    def __init__(self, root: str):
        self.source = HalfOfGoEmotions(root, second=True)

    def read(self, seed: int) -> list[Record]:
        splits: tuple[Split, ...] = ("train", "val")
        return [
            {"id": f"{split}-{k}", "plot_id": k, "split": split, "utterance": example.text}
            for split in splits
            for k, example in enumerate(self.source.read(split))
        ]


class HalfOfGoEmotions(TextSource):
    """All comments with all their labels, but of those to train on every other one; the two halves share no text.

    Args:
        root: folder of GoEmotions.
        second: the half that the other one leaves.
    """

    def __init__(self, root: str, second: bool = False):
        self.source, self.second = GoEmotions(root, several=True), second

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def read(self, split: Split) -> list[LabelledText]:
        examples = self.source.read(split)
        if split != "train":
            return examples
        number = {text: k for k, text in enumerate(dict.fromkeys(example.text for example in examples))}
        return [example for example in examples if number[example.text] % 2 == int(self.second)]


class EmoPillars(TextSource):
    """Graded utterances as examples with several labels.

    Args:
        root: folder of train.jsonl, dev.jsonl and test.jsonl.
        emotions: the taxonomy.
        parts: what an example is, each of them a field for the context and one for the utterance; without a context
            ("") the utterance stands alone. Several give an example of each for every record that has them.
        joined: context and utterance as one text, for a classifier that does not tell them apart.
        plots: share of the plots that the training examples are of.
        cut: levels from here on are labels; None takes the levels themselves.
        remap: give words outside the taxonomy a place in it; else they are dropped.
    """

    def __init__(
        self,
        root: str,
        emotions: list[str] | None = None,
        parts: list[tuple[str, str]] | None = None,
        joined: bool = False,
        plots: float = 1.0,
        cut: float | None = CUT,
        remap: bool = True,
    ):
        if not 0 < plots <= 1:
            raise UserError(f"plots is {plots}: a share is above 0 and at most 1")
        self.folder, self.emotions = expand(root, "root of Emo Pillars"), tuple(emotions or GOEMOTIONS)
        self.parts, self.joined = parts or [("", "utterance")], joined
        self.plots, self.cut, self.remap = plots, cut, REMAP if remap else {}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.emotions

    def read(self, split: Split) -> list[LabelledText]:
        records = list(read_jsonl(self.folder / FILES[split]))
        if split == "train" and self.plots < 1:
            if lacking := next((record for record in records if record.get("plot_id") is None), None):
                raise UserError(
                    f"{self.folder / FILES[split]} has a record without plot_id, by which a share of the plots is "
                    f"chosen; its fields are {shown(', '.join(lacking))}.\n{ABOUT}"
                )
            ids = sorted({str(record["plot_id"]) for record in records})
            few = max(1, round(self.plots * len(ids)))
            kept = {ids[k] for k in np.random.default_rng(0).permutation(len(ids))[:few]}
            records = [record for record in records if str(record["plot_id"]) in kept]
        found = [example for record in records for example in self._examples(record, split)]
        if not found:
            fields = shown(", ".join(records[0])) if records else "none: it is empty"
            raise UserError(
                f"{self.folder / FILES[split]} has no example with {self._wanted()} and a level from the cut "
                f"on; its fields are {fields}.\n{ABOUT}"
            )
        return found

    def _wanted(self) -> str:
        return " or ".join(" and ".join(name for name in part if name) for part in self.parts)

    def _examples(self, record: Record, split: Split) -> Iterator[LabelledText]:
        levels = mapped(levels_of(record, bool(self.remap), self.folder / FILES[split]), self.emotions, self.remap)
        scores = targets(levels, self.emotions, self.cut)
        if not any(scores):  # nothing that the classifier could learn: the example is dropped
            return
        for context, utterance in self.parts:
            before, said = (_text(record, name, self.folder / FILES[split]) for name in (context, utterance))
            if not said or (context and not before):
                continue
            if self.joined or not context:
                yield scored(f"{before} {said}".strip(), None, scores)
            else:
                yield scored(before, said, scores)


def levels_of(record: Record, remap: bool, file: Path) -> list[tuple[str, float]]:
    """A record's (emotion, level) pairs: as its authors have mapped them, or the language model's own words."""
    given = (record.get("all_emotions_mapped") if remap else None) or record.get("all_emotions") or []
    try:
        levels = [(str(name).lower(), float(level)) for name, level in given]
    except (TypeError, ValueError):
        levels = [("", -1.0)]
    if not all(name and 0 <= level <= 1 for name, level in levels):
        raise UserError(f"{file}: {shown(str(given))} are no pairs of an emotion and its level from 0 to 1.\n{ABOUT}")
    return levels


def _text(record: Record, name: str, file: Path) -> str:
    """A field's text; empty where the record has none."""
    value = record.get(name) if name else None
    if value is not None and not isinstance(value, str):
        raise UserError(f"{file}: {name} is {shown(str(value))}, no text.\n{ABOUT}")
    return (value or "").strip()


def plot_split(plot_id: object, shares: tuple[float, float]) -> Split:
    """The split of a plot, by its number alone: all of its utterances are in the same one.

    Args:
        shares: of validation and test; the rest is to train on.
    """
    place = zlib.crc32(f"plot {plot_id}".encode()) / 2**32
    return "val" if place < shares[0] else "test" if place < sum(shares) else "train"
