"""Texts, plain or with classes: what language models read, and what text-classification sources yield."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from common.errors import UserError

Split = Literal["train", "val", "test"]


class AbsentSplit(UserError):
    """A split that is not there; a stage that reads another one does not need it."""


class LabelledText(NamedTuple):
    """A text, or a pair of texts, with the index of its class.

    Attributes:
        scores: of a text that may have several classes, how much it has of each, from 0 to 1; `label` is then the first
            of the highest.
    """

    text: str
    pair: str | None
    label: int
    scores: tuple[float, ...] = ()


def scored(text: str, pair: str | None, scores: tuple[float, ...]) -> LabelledText:
    """A text that may have several classes, or none."""
    return LabelledText(text, pair, scores.index(max(scores)), scores)


class TextSource(ABC):
    """A labelled data set in three splits; the same split always gives the same examples in the same order."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by index."""

    @abstractmethod
    def read(self, split: Split) -> list[LabelledText]:
        """All examples of a split."""


class PlainTexts(ABC):
    """A data set of texts without labels; the same split always gives the same texts in the same order."""

    @abstractmethod
    def read(self, split: Split) -> list[str]:
        """All texts of a split."""


class TextsOf(PlainTexts):
    """The texts of a labelled source, those of a pair one after the other.

    Args:
        source: where they come from; its labels are not looked at.
    """

    def __init__(self, source: TextSource):
        self.source = source

    def read(self, split: Split) -> list[str]:
        return [text for row in self.source.read(split) for text in (row.text, row.pair) if text is not None]
