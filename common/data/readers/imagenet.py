"""ImageNet-1K (ILSVRC 2012) as its archives unpack: a folder of JPEGs per class."""

from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from common.data.files import decode_rgb, read_file
from common.data.images import Picture, PictureSource
from common.errors import UserError
from common.paths import expand

TUNE = 500  # every so many-th training image is for tuning and learning curves

ABOUT = """ImageNet-1K (non-commercial research; accept the terms at image-net.org).
  from: image-net.org/challenges/LSVRC/2012
  expected: <root>/train/<synset>/*.JPEG and <root>/val/<synset>/*.JPEG;
    for zero-shot classification <root>/LOC_synset_mapping.txt too, lines of a synset and its names"""


class ImageNet(PictureSource):
    """Images with the classes' positions in alphabetical order of their synsets, which is the usual one.

    Args:
        root: folder; `$DATA_ROOT` is replaced.
        split: train; tune, every 500th training image, which train leaves out; or val, the 50,000 that are reported on.
        per_class: at most so many images of each class, the first ones; None for all.

    Raises:
        UserError: no such folders, or no images in them.
    """

    def __init__(self, root: str, split: Literal["train", "tune", "val"], per_class: int | None = None):
        self.root = expand(root, "root of ImageNet")
        folder = self.root / ("val" if split == "val" else "train")
        synsets = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        files = [(path, k) for k, synset in enumerate(synsets) for path in sorted((folder / synset).glob("*.JPEG"))]
        if not files:
            raise UserError(f"no images at {folder}/<synset>/*.JPEG.\n{ABOUT}")
        if split == "train":
            del files[::TUNE]
        if split == "tune":
            files = files[::TUNE]
        if per_class is not None:
            groups = groupby(files, key=lambda file: file[1])
            files = [file for _, group in groups for file in islice(group, per_class)]
        self.files = files
        self.classes = self._names(synsets)

    def _names(self, synsets: list[str]) -> tuple[str, ...]:
        """The classes' names in words; their synsets where the mapping is missing."""
        file = self.root / "LOC_synset_mapping.txt"
        if not file.is_file():
            return tuple(synsets)
        names = dict(line.split(" ", 1) for line in file.read_text(encoding="utf-8").splitlines() if " " in line)
        if unnamed := [synset for synset in synsets if synset not in names]:
            raise UserError(f"{file} does not name {unnamed[0]} and {len(unnamed) - 1} more.\n{ABOUT}")
        return tuple(names[synset].strip() for synset in synsets)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Picture:
        path, label = self.files[index]
        return Picture(decode_rgb(read_file(path), path), label, "", _stem(path))


def _stem(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"
