"""What classifiers are trained and tested on: tests of several kinds of one synthetic set, single labels as several."""

import csv

import numpy as np

from common.data.classified import EvaluationData
from common.data.files import is_file, lines_of, shown
from common.data.text import LabelledText, Split, TextSource, scored
from common.errors import UserError
from common.paths import expand
from projects.emo_pillars.records import EmoPillars
from projects.emo_pillars.taxonomy import GOEMOTIONS

KINDS = {
    "original": ("", "utterance"),
    "in_context": ("context", "utterance"),
    "rewritten": ("clean_context", "rewritten"),
    "rewritten_alone": ("", "rewritten"),
}
"""Tests on synthetic data: the fields of context and utterance."""
ISEAR = {
    "joy": "joy", "fear": "fear", "anger": "anger", "sadness": "sadness", "disgust": "disgust",
    "shame": "embarrassment", "guilt": "remorse",
}  # fmt: skip
EMO_CONTEXT = {"happy": "joy", "sad": "sadness", "angry": "anger", "others": "neutral"}
"""Where the other sets' classes lie among the 28: the paper's own table is not known."""
ABOUT_ISEAR = """ISEAR.
  from: the International Survey on Emotion Antecedents and Reactions (Swiss Center for Affective Sciences), as a CSV
  expected: isear.csv, two columns without a header: emotion, text"""
ABOUT_EMO = """EmoContext (SemEval-2019 task 3).
  from: humanizing-ai.com/emocontext.html or huggingface.co/datasets/emo
  expected: train.txt, dev.txt, test.txt with a header and tabs: id, turn1, turn2, turn3, label"""


class EmotionTests(EvaluationData):
    """A gold set, and the kinds of tests that a synthetic set holds.

    Args:
        tokenizer: hub id, or folder of a tokenizer.
        gold: a labelled set by people.
        synthetic: folder of a synthetic set.
        emotions: the taxonomy of the synthetic set; none gives the paper's 28.
        kinds: which tests of the synthetic set.
        joined: contexts and utterances as one text.
        max_length: longer inputs are cut to this many tokens; a context before its utterance.
        eval_batch_size: texts per step.
    """

    def __init__(
        self,
        tokenizer: str,
        gold: TextSource | None = None,
        synthetic: str | None = None,
        emotions: list[str] | None = None,
        kinds: list[str] | None = None,
        joined: bool = False,
        max_length: int = 128,
        eval_batch_size: int = 128,
    ):
        if unknown := set(kinds or ()) - set(KINDS):
            raise UserError(f"data.kinds has no {unknown.pop()}: it is some of {', '.join(KINDS)}")
        tasks: dict[str, TextSource] = {} if gold is None else {"gold": gold}
        if synthetic is not None:
            for kind in kinds or ["original"]:
                tasks[kind] = EmoPillars(synthetic, emotions, [KINDS[kind]], joined=joined)
        if not tasks:
            raise UserError("nothing to test on: give data.gold or data.synthetic")
        super().__init__(tasks, tokenizer, max_length, eval_batch_size, keep_pair=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, which all tests share."""
        return next(iter(self.classes.values()))


class Mapped(TextSource):
    """A set with single labels among the 28 emotions, where its other classes stay empty."""

    @property
    def classes(self) -> tuple[str, ...]:
        return GOEMOTIONS

    @staticmethod
    def example(text: str, pair: str | None, emotion: str) -> LabelledText:
        return scored(text, pair, tuple(float(name == emotion) for name in GOEMOTIONS))


class Isear(Mapped):
    """Reports of experiences with one of seven emotions, in five folds (the paper: 80 % to train on, 20 % to test on).

    Args:
        root: folder of isear.csv.
        fold: which fifth is the test; the threshold is chosen on an eighth of the rest.
    """

    def __init__(self, root: str, fold: int = 0):
        if not 0 <= fold < 5:
            raise UserError(f"fold is {fold}: there are five, 0 to 4")
        self.file, self.fold = expand(root, "root of ISEAR") / "isear.csv", fold

    def read(self, split: Split) -> list[LabelledText]:
        rows = self._rows()
        order = np.random.default_rng(0).permutation(len(rows))
        parts = {"test": order[self.fold :: 5]}
        rest = np.setdiff1d(order, parts["test"], assume_unique=True)
        parts |= {"val": rest[::8], "train": np.setdiff1d(rest, rest[::8])}
        return [rows[k] for k in parts[split]]

    def _rows(self) -> list[LabelledText]:
        if not is_file(self.file):
            raise UserError(f"no isear.csv in {self.file.parent}.\n{ABOUT_ISEAR}")
        found = []
        try:
            rows = list(csv.reader(lines_of(self.file)))
        except csv.Error as error:
            raise UserError(f"{self.file} is no table: {error}\n{ABOUT_ISEAR}") from None
        for number, row in enumerate(rows, start=1):
            emotion = row[0].strip().lower() if row else ""
            if len(row) < 2 or emotion not in ISEAR or not row[1].strip():
                raise UserError(f"{self.file}, row {number}, is not (emotion, text): {shown(str(row))}\n{ABOUT_ISEAR}")
            found.append(self.example(" ".join(row[1].split()), None, ISEAR[emotion]))
        return found


class EmoContext(Mapped):
    """Dialogues of three turns: the first two are the context, the third is the utterance.

    Args:
        root: folder of train.txt, dev.txt and test.txt.
    """

    def __init__(self, root: str):
        self.root = expand(root, "root of EmoContext")

    def read(self, split: Split) -> list[LabelledText]:
        file = self.root / f"{'dev' if split == 'val' else split}.txt"
        if not is_file(file):
            raise UserError(f"no {file.name} in {self.root}.\n{ABOUT_EMO}")
        found = []
        for number, line in enumerate(lines_of(file), start=1):
            if number == 1 and line.lower().startswith("id\t"):
                continue
            row = line.split("\t")
            label = row[4].strip().lower() if len(row) == 5 else ""
            if label not in EMO_CONTEXT:
                raise UserError(f"{file}, line {number}, is not (id, three turns, label): {shown(line)}\n{ABOUT_EMO}")
            found.append(self.example(f"{row[1].strip()} {row[2].strip()}", row[3].strip(), EMO_CONTEXT[label]))
        return found
