"""The captions of pictures as plain texts."""

from common.data.images import PictureSource
from common.data.text import PlainTexts, Split


class Captions(PlainTexts):
    """What is said of pictures, read without looking at them.

    Args:
        pictures: whose captions; every split is theirs.
    """

    def __init__(self, pictures: PictureSource):
        self.pictures = pictures

    def read(self, split: Split) -> list[str]:
        return [self.pictures[index].caption for index in range(len(self.pictures))]
