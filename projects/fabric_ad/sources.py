"""Where pictures of cloth lie: MVTec AD's layout (that of the Industrial Textile Dataset too), AITEX, TILDA, and ten
photographs with one fault each."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from common.data.files import decode_rgb, read_file
from common.data.pictures import SUFFIXES, natural, picture_files
from common.errors import UserError
from common.paths import expand

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last two outside."""


@dataclass(frozen=True)
class Sample:
    """A picture, or a piece of one.

    Attributes:
        file: where it is.
        box: which piece of it; None takes all.
        defective: whether it has a fault; None where the masks' piece says so.
        masks: files in which a fault's pixels are not black.
        fault: boxes of the fault in the whole picture, where it has no mask.
    """

    file: Path
    box: Box | None = None
    defective: bool | None = False
    masks: tuple[Path, ...] = ()
    fault: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Cloth:
    """What a sample shows: image uint8 RGB [H, W, 3]; whether it has a fault, and where, bool [H, W] or not known."""

    image: np.ndarray
    defective: bool
    mask: np.ndarray | None


class FabricSource(ABC):
    """Pictures by category (a kind of cloth) and split. Training and validation have pictures without a fault alone."""

    held_out = 0.3
    """Share of the pictures without a fault that training does not see: the official code's."""

    @abstractmethod
    def normal(self, category: str) -> list[Sample]:
        """What training and validation are taken from."""

    @abstractmethod
    def test(self, category: str) -> list[Sample]: ...

    def samples(self, category: str, split: Split) -> list[Sample]:
        """A category's samples of a split: the same ones whatever the seed."""
        if split == "test":
            return self.test(category)
        found = self.normal(category)
        order = np.random.default_rng(0).permutation(len(found))
        held = round(self.held_out * len(found))
        return [found[k] for k in sorted(order[:held] if split == "val" else order[held:])]

    def read(self, sample: Sample) -> Cloth:
        """Decode a sample; UnreadableSample where it cannot be."""
        image = decode_rgb(read_file(sample.file), sample.file)
        x0, y0, x1, y1 = sample.box or (0, 0, image.shape[1], image.shape[0])
        known = bool(sample.masks or sample.fault) or sample.defective is False
        mask = np.zeros(image.shape[:2], bool)
        for left, top, right, bottom in sample.fault:
            mask[top:bottom, left:right] = True
        for file in sample.masks:
            painted = decode_rgb(read_file(file), file).any(-1)
            height, width = (min(a, b) for a, b in zip(painted.shape, mask.shape, strict=True))
            mask[:height, :width] |= painted[:height, :width]  # one strip of AITEX is narrower than its mask
        piece = mask[y0:y1, x0:x1]
        defective = bool(piece.any()) if sample.defective is None else sample.defective
        return Cloth(image[y0:y1, x0:x1], defective, piece if known else None)


class MVTec(FabricSource):
    """`<category>/train/good`, `<category>/test/{good,<fault>}`, `<category>/ground_truth/<fault>/<name>_mask.png`.

    The Industrial Textile Dataset has no masks.

    Args:
        root: folder of the categories.
    """

    def __init__(self, root: str = "$DATA_ROOT/mvtec_ad"):
        self.root = expand(root, "data.source.root")

    def normal(self, category: str) -> list[Sample]:
        return [Sample(file) for file in picture_files([self._folder(category, "train/good")])]

    def test(self, category: str) -> list[Sample]:
        found = []
        for folder in sorted(self._folder(category, "test").iterdir()):
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            for file in picture_files([folder]):
                mask = self.root / category / "ground_truth" / folder.name / f"{file.stem}_mask.png"
                masks = (mask,) if mask.is_file() else ()
                found.append(Sample(file, None, folder.name != "good", masks))
        return found

    def _folder(self, category: str, part: str) -> Path:
        return _folder(self.root / category / part, "MVTec AD's layout: <category>/train/good and <category>/test/...")


def _folder(folder: Path, layout: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} ({layout}): download the data, or correct data.source.root")
    return folder


class Aitex(FabricSource):
    """AITEX: strips of 4096 x 256 pixels, cut into squares; a square has a fault where its part of the mask does.

    `NODefect_images/<roll>/nnnn_000_ff.png`, `Defect_images/nnnn_ddd_ff.png` and `Mask_images/nnnn_ddd_ff_mask*.png`,
    ff being the fabric ("00" to "06"), which is the category. Of strips without a fault the last 30 % are for testing.
    Squares of white padding are left out, and strips with a fault that have no mask: which of their squares are good is
    not known.

    Args:
        root: folder of the three.
    """

    tested = 0.3

    def __init__(self, root: str = "$DATA_ROOT/aitex"):
        self.root = expand(root, "data.source.root")

    def normal(self, category: str) -> list[Sample]:
        strips = self._good(category)
        return _squares(strips[: len(strips) - round(self.tested * len(strips))], defective=False)

    def test(self, category: str) -> list[Sample]:
        strips = self._good(category)
        found = _squares(strips[len(strips) - round(self.tested * len(strips)) :], defective=False)
        masks = _folder(self.root / "Mask_images", "AITEX's layout")
        for file in self._strips("Defect_images", category):
            if painted := tuple(sorted(masks.glob(f"{file.stem}_mask*.png"))):
                found += _squares([file], None, painted)
        return found

    def _good(self, category: str) -> list[Path]:
        return self._strips("NODefect_images", category)

    def _strips(self, part: str, category: str) -> list[Path]:
        folder = _folder(self.root / part, "AITEX's layout: NODefect_images, Defect_images, Mask_images")
        found = sorted((file for file in folder.rglob(f"*_{category}.png")), key=natural)
        if not found:
            raise UserError(f"{folder} has no strip of fabric {category} (nnnn_ddd_{category}.png)")
        return found


def _squares(strips: Iterable[Path], defective: bool | None, masks: tuple[Path, ...] = ()) -> list[Sample]:
    """Squares as high as their strip, one beside the other, without those that are white padding."""
    found = []
    for file in strips:
        image = decode_rgb(read_file(file), file)
        side = image.shape[0]
        for left in range(0, image.shape[1] - side + 1, side):
            if image[:, left : left + side].min() < 250:
                found.append(Sample(file, (left, 0, left + side, side), defective, masks))
    return found


class Tilda(FabricSource):
    """TILDA: files c1r1e0n1.tif and so on, in whatever folders: texture c, r; e0 without a fault, e1 to e4 with one.

    The category is the texture, "c1r1". e5 to e7 (wrinkles, light, camera) are left out. Of the pictures without a
    fault the last 30 % are for testing. There are no masks.

    Args:
        root: the folder.
    """

    tested = 0.3

    def __init__(self, root: str = "$DATA_ROOT/tilda"):
        self.root = expand(root, "data.source.root")

    def normal(self, category: str) -> list[Sample]:
        found = self._of(category, "0")
        return [Sample(file) for file in found[: len(found) - round(self.tested * len(found))]]

    def test(self, category: str) -> list[Sample]:
        found = self._of(category, "0")
        good = [Sample(file) for file in found[len(found) - round(self.tested * len(found)) :]]
        return good + [Sample(file, None, True) for file in self._of(category, "[1-4]")]

    def _of(self, category: str, faults: str) -> list[Path]:
        wanted = re.compile(rf"{re.escape(category)}_?e{faults}_?n\d+", re.IGNORECASE)
        folder = _folder(self.root, "TILDA's layout: c1r1e0n1.tif and so on")
        found = [f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and wanted.fullmatch(f.stem)]
        if not found:
            raise UserError(f"{self.root} has no picture {category}e{faults}n1.tif or alike: is it TILDA's folder?")
        return sorted(found, key=natural)


WHOLE = 256  # side of the photographs, pixels
FAULTS: dict[str, tuple[Box, ...]] = {
    "type1cam1": ((126, 98, 150, 136),),
    "type2cam2": ((32, 84, 50, 106),),
    "type3cam1": ((0, 78, 62, 152),),
    "type4cam2": ((118, 50, 192, 256),),
    "type5cam2": ((70, 50, 88, 82),),
    "type6cam2": ((62, 38, 92, 64),),
    "type7cam2": ((167, 114, 184, 136), (153, 192, 170, 212), (60, 152, 72, 166)),
    "type8cam1": ((203, 0, 252, 206),),
    "type9cam2": ((74, 8, 90, 28),),
    "type10cam2": ((190, 42, 256, 154),),
}
"""Rough boxes of the faults in the sample photographs of the Industrial Textile Dataset, read by eye."""


class Photographs(FabricSource):
    """The ten photographs of 256 x 256 pixels in the Industrial Textile Dataset's repository, cut into pieces.

    A piece has a fault where it holds LEAST of a fault's box or is covered by that much of one; pieces that touch a box
    with less belong to no split. Of the others, the row that is farthest from the boxes is for testing; of those that
    have no pixel in common with that row, the leftmost are for validation, and what does not touch these for training.
    The category "all" stands for all photographs, "type1cam1" for one.

    Args:
        root: folder with type1cam1.png and so on.
        side: of a piece, pixels.
        step: from piece to piece, pixels.
    """

    LEAST = 0.3

    def __init__(self, root: str = "$DATA_ROOT/textile", side: int = 64, step: int = 16):
        self.root, self.side, self.step = expand(root, "data.source.root"), side, step

    def normal(self, category: str) -> list[Sample]:
        return self.samples(category, "train") + self.samples(category, "val")

    def test(self, category: str) -> list[Sample]:
        return self.samples(category, "test")

    def samples(self, category: str, split: Split) -> list[Sample]:
        names = list(FAULTS) if category == "all" else [category]
        found = []
        for name in names:
            if name not in FAULTS:
                raise UserError(f"there is no photograph {name}: name 'all', or one of {', '.join(FAULTS)}")
            if not (file := self.root / f"{name}.png").is_file():
                raise UserError(f"no {file}: get images/ of github.com/SimonThomine/IndustrialTextileDataset")
            found += [Sample(file, box, bool(fault), (), fault) for box, fault in self._pieces(name, split)]
        return found

    def _pieces(self, name: str, split: Split) -> Iterator[tuple[Box, tuple[Box, ...]]]:
        """Pieces of a photograph that belong to a split, and the boxes of its faults where they have one."""
        faults, side = FAULTS[name], self.side
        places = range(0, WHOLE - side + 1, self.step)
        tested = max(places, key=lambda top: min(max(f[1] - top - side, top - f[3]) for f in faults))
        for top, left in product(places, places):
            box = (left, top, left + side, top + side)
            share = max(_share(box, fault) for fault in faults)
            if share > 0:
                belongs = "test" if share >= self.LEAST else ""
            elif top == tested:
                belongs = "test"
            elif abs(top - tested) < side or 0 < left < side:
                belongs = ""
            else:
                belongs = "val" if left == 0 else "train"
            if belongs == split:
                yield box, faults if share > 0 else ()


def _share(box: Box, fault: Box) -> float:
    """How much of the smaller of the two the other covers."""
    width = min(box[2], fault[2]) - max(box[0], fault[0])
    height = min(box[3], fault[3]) - max(box[1], fault[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, fault))
    return max(width, 0) * max(height, 0) / smaller
