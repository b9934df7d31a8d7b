"""ImageNet-1K (ILSVRC 2012) as its archives unpack: a folder of JPEGs per class."""

from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from common.data.files import decode_rgb, is_file, is_folder, lines_of, read_file, readable
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

    Attributes:
        synsets: of the classes, in their order.

    Raises:
        UserError: no such folders, or no images in them.
    """

    def __init__(self, root: str, split: Literal["train", "tune", "val"], per_class: int | None = None):
        self.root = expand(root, "root of ImageNet")
        if per_class is not None and per_class < 1:
            raise UserError(f"ImageNet: per_class is {per_class}, at least one image of each is needed")
        folder = self.root / ("val" if split == "val" else "train")
        classes = _images(folder)
        synsets = [path.name for path in classes]
        files = [(path, k) for k, images in enumerate(classes.values()) for path in images]
        if not files:
            raise UserError(f"no images at {folder}/<synset>/*.JPEG.\n{ABOUT}")
        if empty := [path for path, images in classes.items() if not images]:  # it would shift the labels of the others
            raise UserError(f"{empty[0]} holds no *.JPEG: unpack it, or remove the folder if it is no class.\n{ABOUT}")
        if split == "train":
            del files[::TUNE]
        if split == "tune":
            files = files[::TUNE]
        if per_class is not None:
            groups = groupby(files, key=lambda file: file[1])
            files = [file for _, group in groups for file in islice(group, per_class)]
        self.files, self.synsets = files, synsets
        self.classes = self._names(synsets)

    def _names(self, synsets: list[str]) -> tuple[str, ...]:
        """The classes' names in words; their synsets where the mapping is missing."""
        file = self.root / "LOC_synset_mapping.txt"
        if not is_file(file):
            return tuple(synsets)
        names = dict(line.split(" ", 1) for line in lines_of(file) if " " in line)
        if unnamed := [synset for synset in synsets if synset not in names]:
            raise UserError(f"{file} does not name {unnamed[0]} and {len(unnamed) - 1} more.\n{ABOUT}")
        return tuple(names[synset].strip() for synset in synsets)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Picture:
        path, label = self.files[index]
        return Picture(decode_rgb(read_file(path), path), label, "", _stem(path))


def _images(folder: Path) -> dict[Path, list[Path]]:
    """The images of each class's folder, both in order; hidden folders are no classes."""
    if not is_folder(folder):
        return {}
    with readable(folder):
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return {path: sorted(path.glob("[!.]*.JPEG")) for path in classes}


def _stem(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"
