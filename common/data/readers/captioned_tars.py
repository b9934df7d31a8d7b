"""Captioned images in tars, as webdataset and img2dataset write them: `<key>.jpg` and `<key>.txt` side by side."""

import bisect
from itertools import accumulate

import numpy as np

from common.data.archives import TarIndex, index_tar, read_member
from common.data.files import decode_rgb
from common.data.images import Picture, PictureSource
from common.errors import UserError
from common.paths import expand

IMAGES = ("jpg", "jpeg", "png", "webp")


class CaptionedTars(PictureSource):
    """Image-text pairs of a range of tars, read where they lie; samples without an image or a text are left out.

    Args:
        root: folder of the tars; `$DATA_ROOT` is replaced.
        first: position of the first tar in alphabetical order.
        last: position behind the last one; None for all that follow.

    Raises:
        UserError: no such tars, a damaged one, or no pairs in them.
    """

    def __init__(self, root: str, first: int = 0, last: int | None = None):
        folder = expand(root, "root of the tars")
        tars = sorted(folder.glob("*.tar"))[first:last] if folder.is_dir() else []
        if not tars:
            raise UserError(f"no tars number {first} to {'the end' if last is None else last - 1} in {folder}")
        self.tars = tars
        self.spans = [_pairs(index_tar(tar)) for tar in tars]
        self.ends = list(accumulate(len(spans) for spans in self.spans))
        if not self.ends[-1]:
            raise UserError(f"{tars[0]} and {len(tars) - 1} more tars hold no <key>.jpg with a <key>.txt")

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Picture:
        number = bisect.bisect_right(self.ends, index)
        within = index - (self.ends[number - 1] if number else 0)
        tar, (image, image_size, text, text_size) = self.tars[number], self.spans[number][within].tolist()
        name = f"{tar}:pair {within}"
        caption = read_member(tar, text, text_size, name).decode("utf-8", "replace").strip()
        return Picture(decode_rgb(read_member(tar, image, image_size, name), name), -1, caption, name)


def _pairs(index: TarIndex) -> np.ndarray:
    """Offset and size of the image, then of the text, of every sample in the order of the images: int64 [P, 4].

    Numbers alone are kept: the names of millions of samples would fill the memory.
    """
    texts = {name.rpartition(".")[0]: k for k, name in enumerate(index.names) if name.endswith(".txt")}
    parts = [(k, *name.rpartition(".")[::2]) for k, name in enumerate(index.names)]
    pairs = [(k, texts[key]) for k, key, suffix in parts if suffix.lower() in IMAGES and key in texts]
    images, captions = np.array(pairs, np.int64).reshape(-1, 2).T
    return np.stack([index.offsets[images], index.sizes[images], index.offsets[captions], index.sizes[captions]], 1)
