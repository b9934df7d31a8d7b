"""Texts with one class each: what every text-classification source yields."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from common.errors import UserError

Split = Literal["train", "val", "test"]


class AbsentSplit(UserError):
    """A split that is not there; a stage that reads another one does not need it."""


class LabelledText(NamedTuple):
    """A text, or a pair of texts, with the index of its class."""

    text: str
    pair: str | None
    label: int


class TextSource(ABC):
    """A labelled data set in three splits; the same split always gives the same examples in the same order."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by index."""

    @abstractmethod
    def read(self, split: Split) -> list[LabelledText]:
        """All examples of a split."""
