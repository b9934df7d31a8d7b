"""The paper scale's data sets: NYUDv2 and PASCAL-Context as their multi-task packages lie, Cityscapes, CIFAR-100."""

from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.io import loadmat
from scipy.ndimage import laplace

from common.data.files import decode_rgb, is_file, is_folder, lines_of, matching, read_file
from common.data.readers.image_parquet import ImageParquet
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand
from projects.controllable_mtl.data import Sample, TaskSource
from projects.controllable_mtl.tasks import IGNORED

NYUD = """NYUDv2 for several tasks (NYUD_MT.tgz of ASTMT and of Multi-Task-Learning-PyTorch; research use).
  expected: <root>/gt_sets/{train,val}.txt, images/*.jpg, segmentation/*.png, depth/*.npy, normals/*.npy, edge/*.npy"""
PASCAL = """PASCAL-Context for several tasks (PASCAL_MT.tgz of ASTMT, Multi-Task-Learning-PyTorch; Flickr's terms).
  expected: <root>/ImageSets/Context/{train,val}.txt, JPEGImages/*.jpg, semseg/{VOC12,pascal-context}/*.png,
    human_parts/*.mat, sal_distill/*.png, normals_distill/*.png, pascal-context/trainval/*.mat"""
CITYSCAPES = """Cityscapes (register at cityscapes-dataset.com; research use).
  expected: <root>/{leftImg8bit,gtFine,disparity}/{train,val}/<city>/*.png"""
PARTS = {
    name: number
    for number, names in enumerate(
        (
            "hair head lear lebrow leye mouth nose rear rebrow reye", "neck torso", "luarm ruarm",
            "lhand llarm rhand rlarm", "luleg ruleg", "lfoot llleg rfoot rlleg",
        ), 1,
    )
    for name in names.split()
}  # fmt: skip
"""The packages' six human parts: head, torso, upper and lower arms, upper and lower legs."""
PERSON = 15
TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' labels that count, in the order of its 19 classes."""
FAR = 126.0
"""Cityscapes' disparity is at most this many pixels; as an inverse depth it is given from 0 to 1."""


class Nyud(TaskSource):
    """NYUDv2: `segments` of 40 classes, `depth` in metres, `normals`, `edges`.

    Args:
        root: folder; `$DATA_ROOT` is replaced.
        split: 795 pictures to train on, 654 that are reported on.
    """

    def __init__(self, root: str, split: Literal["train", "val"]):
        self.root = expand(root, "root of NYUDv2")
        self.names = listed(self.root / "gt_sets" / f"{split}.txt", NYUD)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        labels = pixels(self.root / "segmentation" / f"{name}.png").astype(np.int64)
        return {
            "image": picture(self.root / "images" / f"{name}.jpg"),
            "segments": np.where(labels == 0, IGNORED, labels - 1),
            "depth": array(self.root / "depth" / f"{name}.npy"),
            "normals": array(self.root / "normals" / f"{name}.npy"),
            "edges": array(self.root / "edge" / f"{name}.npy"),
        }


class PascalContext(TaskSource):
    """PASCAL-Context: `segments` of 21 classes, `parts` of people (7 with none), `saliency`, `normals`, `edges`.

    Args:
        root: folder; `$DATA_ROOT` is replaced.
        split: 4,998 pictures to train on, 5,105 that are reported on.
    """

    def __init__(self, root: str, split: Literal["train", "val"]):
        self.root = expand(root, "root of PASCAL-Context")
        self.names = listed(self.root / "ImageSets/Context" / f"{split}.txt", PASCAL)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        voc, context = (self.root / "semseg" / folder / f"{name}.png" for folder in ("VOC12", "pascal-context"))
        labels = matlab(self.root / "pascal-context/trainval" / f"{name}.mat", "LabelMap").astype(np.float32)
        image = picture(self.root / "JPEGImages" / f"{name}.jpg")
        normals = pixels(self.root / "normals_distill" / f"{name}.png").astype(np.float32)
        return {
            "image": image,
            "segments": pixels(voc if is_file(voc) else context).astype(np.int64),
            "parts": self._parts(self.root / "human_parts" / f"{name}.mat", image.shape[:2]),
            "saliency": (pixels(self.root / "sal_distill" / f"{name}.png") > 127).astype(np.int64),
            "normals": np.where(normals.any(-1, keepdims=True), normals / 127.5 - 1, 0).astype(np.float32),
            "edges": (laplace(labels, mode="nearest") != 0).astype(np.float32),
        }

    def _parts(self, file: Path, shape: tuple[int, ...]) -> np.ndarray:
        """[H, W]: 0, or the part of a person; pictures without people do not count."""
        found = np.full(shape, IGNORED, np.int64)
        for one in matlab(file, "anno")["objects"][0, 0][0]:
            if int(one["class_ind"].item()) != PERSON or not one["parts"].size:
                continue
            found[found == IGNORED] = 0
            for part in one["parts"][0]:
                found[part["mask"].astype(bool)] = PARTS.get(str(part["part_name"].item()), 0)
        return found


class Cityscapes(TaskSource):
    """Cityscapes: `segments` of 19 classes, `depth`, which is disparity from 0 to 1 (0 not known).

    Args:
        root: folder; `$DATA_ROOT` is replaced.
        split: 2,975 pictures to train on, 500 that are reported on.
    """

    def __init__(self, root: str, split: Literal["train", "val"]):
        self.root = expand(root, "root of Cityscapes")
        folder = self.root / "leftImg8bit" / split
        cities = sorted(p for p in folder.iterdir() if p.is_dir()) if is_folder(folder) else []
        self.files = [file for city in cities for file in matching(city / "*_leftImg8bit.png")]
        if not self.files:
            raise UserError(f"no pictures at {folder}/<city>/*_leftImg8bit.png.\n{CITYSCAPES}")
        self.classes = np.full(256, IGNORED, np.int64)
        self.classes[list(TRAINED)] = np.arange(len(TRAINED))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        stem, place = file.name.removesuffix("_leftImg8bit.png"), file.relative_to(self.root / "leftImg8bit").parent
        disparity = pixels(self.root / "disparity" / place / f"{stem}_disparity.png").astype(np.float32)
        labels = pixels(self.root / "gtFine" / place / f"{stem}_gtFine_labelIds.png")
        return {
            "image": picture(file),
            "segments": self.classes[labels],
            "depth": (np.maximum(disparity - 1, 0) / 256 / FAR).astype(np.float32),
        }


class Cifar100(TaskSource):
    """CIFAR-100 as twenty tasks: which of the five classes of a super-class; pictures of the others do not count.

    Args:
        files: the hub's parquet files, as "$DATA_ROOT/cifar100/cifar100/train-*.parquet".
    """

    def __init__(self, files: str):
        self.rows, coarse = ImageParquet(files, "fine_label"), ImageParquet(files, "coarse_label")
        self.groups, self.names = coarse.labels, coarse.classes
        members = [
            sorted({f for f, c in zip(self.rows.labels, self.groups, strict=True) if c == g})
            for g in range(len(self.names))
        ]
        self.places = [members[c].index(f) for f, c in zip(self.rows.labels, self.groups, strict=True)]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Sample:
        targets = dict.fromkeys(self.names, np.int64(IGNORED)) | {
            self.names[self.groups[index]]: np.int64(self.places[index])
        }
        return {"image": self.rows[index].image, **{name: np.asarray(value) for name, value in targets.items()}}


def listed(file: Path, about: str) -> list[str]:
    """The names in a split's file; UserError where it is missing or empty."""
    names = [line.strip() for line in lines_of(file) if line.strip()] if is_file(file) else []
    if not names:
        raise UserError(f"{file} is missing, or empty.\n{about}")
    return names


def picture(file: Path) -> np.ndarray:
    """uint8 [H, W, 3], as it is stored: labels lie on that raster."""
    return decode_rgb(read_file(file), file, orient=False)


def pixels(file: Path) -> np.ndarray:
    """A PNG's own values, [H, W] or [H, W, 3]: of a palette the indices, of 16 bits all of them."""
    content = read_file(file)
    try:
        with Image.open(BytesIO(content)) as image:
            return np.array(image)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableSample(file, f"it is no PNG, or a damaged one ({error})") from error


def array(file: Path) -> np.ndarray:
    """float32 values of an .npy file."""
    content = read_file(file)
    try:
        return np.load(BytesIO(content), allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError, OSError) as error:
        raise UnreadableSample(file, f"it is no array of NumPy's ({error})") from error


def matlab(file: Path, name: str) -> np.ndarray:
    """One variable of a .mat file."""
    content = read_file(file)
    try:
        return loadmat(BytesIO(content))[name]
    except Exception as error:  # SciPy's reader raises ValueError, TypeError, zlib.error, KeyError, ...
        raise UnreadableSample(file, f"it has no {name}, or is damaged ({error})") from error
