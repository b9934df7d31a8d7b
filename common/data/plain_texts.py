"""Texts without labels, which language models read: those of a labelled source, of pairs, or said of pictures."""

from abc import ABC, abstractmethod

from common.data.images import PictureSource
from common.data.pairs import PairSource
from common.data.text import Split, TextSource


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


class TextsOfPairs(PlainTexts):
    """Both sentences of each pair as one text: the stories of a world.

    Args:
        source: where they come from; scores are not looked at.
    """

    def __init__(self, source: PairSource):
        self.source = source

    def read(self, split: Split) -> list[str]:
        return [f"{pair.a} {pair.b}" for pair in self.source.read(split)]


class Captions(PlainTexts):
    """What is said of pictures, read without looking at them.

    Args:
        pictures: whose captions; every split is theirs.
    """

    def __init__(self, pictures: PictureSource):
        self.pictures = pictures

    def read(self, split: Split) -> list[str]:
        return [self.pictures[index].caption for index in range(len(self.pictures))]
