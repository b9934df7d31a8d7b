"""Pairs of sentences with a similarity that somebody, or something, gave them: what every pair source yields."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from common.data.text import Split


class Pair(NamedTuple):
    """Two sentences, and how similar they are; None where nobody said."""

    a: str
    b: str
    score: float | None = None

    @property
    def swapped(self) -> "Pair":
        return Pair(self.b, self.a, self.score)


class PairSource(ABC):
    """A data set of pairs; the same split always gives the same pairs in the same order."""

    binary = False
    """Whether scores are classes, 1 for a match and 0 for none, instead of degrees."""

    @abstractmethod
    def read(self, split: Split) -> list[Pair]:
        """All pairs of a split; those of `val` and `test` have scores."""


class Unlabelled(PairSource):
    """The pairs of several sources and splits without their scores, each pair once: what unsupervised training may see.

    Args:
        sources: where the pairs come from.
        splits: which of their splits; a transductive training takes all three.
    """

    def __init__(self, sources: list[PairSource], splits: tuple[Split, ...] = ("train", "val", "test")):
        self.sources, self.splits = sources, splits

    def read(self, split: Split) -> list[Pair]:
        pairs = [pair for source in self.sources for part in self.splits for pair in source.read(part)]
        return list(dict.fromkeys(Pair(pair.a, pair.b) for pair in pairs))
