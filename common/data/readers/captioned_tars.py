"""Captioned images in tars, as webdataset and img2dataset write them: `<key>.jpg` and `<key>.txt` side by side.

In a `.txt`'s place a `.json` with a "caption" will do.
"""

from common.data.archives import PairedTars, tars_in
from common.data.checks import try_source
from common.data.files import decode_rgb
from common.data.images import Picture, PictureSource
from common.data.readers.video_tars import read_caption
from common.data.scene import UnreadableSample

IMAGES = ("jpg", "jpeg", "png", "webp")


class CaptionedTars(PictureSource):
    """Image-text pairs of a range of tars, read where they lie; samples without an image or a text are left out.

    Where a sample has both a `.txt` and a `.json`, as img2dataset writes them, the `.txt` is its text.

    Args:
        root: folder of the tars; `$DATA_ROOT` is replaced.
        first: position of the first tar in alphabetical order.
        last: position behind the last one; None for all that follow.

    Raises:
        UserError: no such tars, a damaged one, or no pairs in them.
    """

    def __init__(self, root: str, first: int = 0, last: int | None = None):
        self.samples = PairedTars(root, first, last, IMAGES, ("txt", "json"))

    @classmethod
    def check(cls, root: str, first: int = 0, last: int | None = None, **_: object) -> None:
        """Try the first and the last of the tars."""
        count = len(tars_in(root, first, last))
        for number in {first, first + count - 1}:
            try_source(cls(root, number, number + 1))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Picture:
        image, text, name = self.samples.read(index, "pair")
        if self.samples.ending(index) == "json":
            return Picture(decode_rgb(image, name), -1, read_caption(text, name), name)
        try:
            caption = text.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise UnreadableSample(name, f"its caption is not UTF-8 (byte {error.start})") from error
        return Picture(decode_rgb(image, name), -1, caption, name)
