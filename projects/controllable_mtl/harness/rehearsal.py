"""Stand-ins for what the paper's configs read: made-up scenes in each data set's layout, and a ResNet's weights."""

import re
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from scipy.io import savemat
from torch import Tensor
from torchvision.models import resnet18

from common.rehearsal.datasets import write_parquet
from common.rehearsal.sa1b import make_scene

SPLITS = {"train": 6, "val": 3}
SHAPE = (64, 96)
FINE = 100


def make(folder: Path) -> None:
    """Write `data/` and `weights/` into `folder`."""
    for number, (split, count) in enumerate(SPLITS.items()):
        names = [f"{number}_{k}" for k in range(count)]
        nyud(folder / "data/NYUD_MT", split, names)
        pascal(folder / "data/PASCAL_MT", split, names)
        cityscapes(folder / "data/cityscapes", split, names)
    cifar100(folder / "data/cifar100/cifar100")
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(narrow(resnet18().state_dict()), folder / "weights/resnet18-f37072fd.pth")


def narrow(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A quarter of all channels, and the first block of every stage: the sizes of `configs/rehearsal/base*.yaml`."""
    kept = {name: x for name, x in state.items() if not re.match(r"layer\d\.1\.", name)}
    return {name: x[tuple(slice(n if n < 64 else n // 4) for n in x.shape)].clone() for name, x in kept.items()}


def nyud(root: Path, split: str, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    listing(root / "gt_sets" / f"{split}.txt", names)
    for name in names:
        image(root / "images" / f"{name}.jpg", scene(name))
        image(root / "segmentation" / f"{name}.png", rng.integers(0, 41, SHAPE).astype(np.uint8))
        normals = rng.normal(size=(*SHAPE, 3))
        fields = {"depth": rng.uniform(0, 9, SHAPE), "normals": normals, "edge": rng.random(SHAPE) < 0.1}
        for kind, values in fields.items():
            path = root / kind / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float32))


def pascal(root: Path, split: str, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    listing(root / "ImageSets/Context" / f"{split}.txt", names)
    for number, name in enumerate(names):
        image(root / "JPEGImages" / f"{name}.jpg", scene(name))
        labels = "VOC12" if number % 2 else "pascal-context"
        image(root / "semseg" / labels / f"{name}.png", rng.integers(0, 21, SHAPE).astype(np.uint8))
        image(root / "sal_distill" / f"{name}.png", rng.integers(0, 256, SHAPE).astype(np.uint8))
        image(root / "normals_distill" / f"{name}.png", rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8))
        mask = np.zeros(SHAPE, np.uint8)
        mask[8:40, 8:40] = 1
        part = np.array([("head", mask), ("llleg", 1 - mask)], [("part_name", object), ("mask", object)])
        person = np.array([("person", 15, mask, part)], [(n, object) for n in ("class", "class_ind", "mask", "parts")])
        for place, content in (
            (root / "human_parts", {"anno": {"imname": name, "objects": person}}),
            (root / "pascal-context/trainval", {"LabelMap": rng.integers(0, 460, SHAPE).astype(np.uint16)}),
        ):
            place.mkdir(parents=True, exist_ok=True)
            savemat(place / f"{name}.mat", content)


def cityscapes(root: Path, split: str, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        stem = f"aachen_{name}"
        image(root / f"leftImg8bit/{split}/aachen/{stem}_leftImg8bit.png", scene(name))
        image(root / f"gtFine/{split}/aachen/{stem}_gtFine_labelIds.png", rng.integers(0, 34, SHAPE).astype(np.uint8))
        image(root / f"disparity/{split}/aachen/{stem}_disparity.png", rng.integers(0, 32_000, SHAPE).astype(np.uint16))


def cifar100(root: Path) -> None:
    from projects.controllable_mtl.recipe import SUPERCLASSES

    names = [f"class {k}" for k in range(FINE)]
    kinds = {
        "fine_label": datasets.ClassLabel(names=names),
        "coarse_label": datasets.ClassLabel(names=list(SUPERCLASSES)),
    }
    features = datasets.Features({"img": datasets.Image(), **kinds})
    for split in ("train", "test"):
        rows = []
        for k in range(2 * FINE):
            content = BytesIO()
            Image.fromarray(make_scene(k, (32, 32))[0]).save(content, "PNG")
            rows.append(
                {
                    "img": {"bytes": content.getvalue(), "path": None},
                    "fine_label": k % FINE,
                    "coarse_label": k % len(SUPERCLASSES),
                }
            )
        write_parquet(root / f"{split}-00000-of-00001.parquet", rows, features)


def scene(name: str) -> np.ndarray:
    return make_scene(sum(map(ord, name)), SHAPE)[0]


def image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def listing(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
