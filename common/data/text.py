"""Texts with one class, or several, each: what every text-classification source yields."""

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
