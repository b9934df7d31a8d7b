"""Samples of several tasks at once: overlapped digits, and the loaders of any such source."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError

Sample = dict[str, np.ndarray]
"""`image`, uint8 [H, W, 3], and a target for each task: int64 [] or [H, W] for classes, float32 [H, W] or [H, W, 3]."""
CANVAS, SIDE, WHITE = 12, 8, 16.0
DIGITS = {"train": slice(0, 1000), "val": slice(1000, 1300), "test": slice(1300, 1797)}
"""Which of scikit-learn's 1,797 digits each split's pairs are made of, in an order drawn once."""


class TaskSource(ABC):
    """A random-access collection of samples; the same index always gives the same one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...


class OverlappedDigits(TaskSource):
    """Two digits of 8 x 8 pixels on 12 x 12, the tasks `left` and `right` being what they are.

    The left one begins at column 0 or 1, the right one at 3 or 4, each in any row: three to five columns of them
    overlap, and there the brighter pixel is seen.

    Args:
        split: whose digits; no digit is in two splits.
        count: pairs, the same ones whatever the run's seed is.
    """

    def __init__(self, split: Literal["train", "val", "test"], count: int):
        if count < 1:
            raise UserError(f"data.{split}: count {count}; at least one pair of digits is needed")
        known = load_digits()
        order = np.random.default_rng(0).permutation(len(known.images))[DIGITS[split]]
        rng = np.random.default_rng(list(DIGITS).index(split) + 1)
        pairs = rng.choice(order, (count, 2))
        rows, columns = rng.integers(0, CANVAS - SIDE + 1, (count, 2)), rng.integers((0, 3), (2, 5), (count, 2))
        self.labels = known.target[pairs].astype(np.int64)
        self.images = np.zeros((count, CANVAS, CANVAS))
        for image, two, y, x in zip(self.images, pairs, rows, columns, strict=True):
            for k in range(2):
                seen = image[y[k] : y[k] + SIDE, x[k] : x[k] + SIDE]
                np.maximum(seen, known.images[two[k]], out=seen)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        image = np.repeat((self.images[index] * (255 / WHITE)).astype(np.uint8)[..., None], 3, 2)
        return {"image": image, "left": self.labels[index, 0], "right": self.labels[index, 1]}


class Samples(Dataset):
    """A source's samples as tensors: pictures scaled and normalised, targets in the same size.

    Args:
        size: height and width.
        mirror: half of the draws are mirrored.
    """

    def __init__(self, source: TaskSource | Subset, size: tuple[int, int], mirror: bool = False):
        self.source = Tolerant(source)  # type: ignore[arg-type]  # it never looks at what it passes on
        self.size, self.mirror = size, mirror
        self.mean, self.std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.draw(index, np.random.default_rng(index))

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        sample: Any = self.source[index]
        mirrored = self.mirror and rng.random() < 0.5
        return {name: self._tensor(name, np.asarray(value), mirrored) for name, value in sample.items()}

    def _tensor(self, name: str, value: np.ndarray, mirrored: bool) -> Tensor:
        found = torch.from_numpy(value)
        if value.ndim < 2:
            return found
        found = found.permute(2, 0, 1) if value.ndim == 3 else found[None]
        if found.shape[-2:] != self.size:
            mode = {"mode": "bilinear", "antialias": True} if name == "image" else {"mode": "nearest-exact"}
            found = F.interpolate(found[None].float(), self.size, **mode)[0].to(found.dtype)
        if mirrored:
            found = found.flip(-1)
            if value.ndim == 3 and name != "image":  # normals: x points the other way
                found = torch.cat([-found[:1], found[1:]])
        if name == "image":
            return (found.float() / 255 - self.mean) / self.std
        return found.float() if found.is_floating_point() else found[0].long()


class TaskData(L.LightningDataModule):
    """Sources for each split. A test has one step: the evaluation itself goes through the splits, again and again.

    Args:
        train: to train on, and to calibrate batch norms with.
        val: for learning curves and for the search; no part of train.
        test: for the reported figures.
        held_out: where there is no `val`, so many of the last training samples are it, and are not trained on.
        size: height and width of the pictures, pixels.
        batch_size: of a training step and process.
        eval_batch_size: of a step of validation and test.
        mirror: mirror half of the training pictures.
        num_workers: processes that load data; 0 loads in the training process.
        seed: order of the training stream.
    """

    def __init__(
        self,
        train: TaskSource | None = None,
        val: TaskSource | None = None,
        test: TaskSource | None = None,
        held_out: int = 0,
        size: tuple[int, int] = (CANVAS, CANVAS),
        batch_size: int = 64,
        eval_batch_size: int = 256,
        mirror: bool = True,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.parts: dict[str, TaskSource | Subset] = {
            name: source for name, source in (("train", train), ("val", val), ("test", test)) if source is not None
        }
        if train is not None and held_out:
            if val is not None or not 0 < held_out < len(train):
                raise UserError(f"data.held_out {held_out}: some of {len(train)} training samples, and no data.val")
            whole, left = range(len(train)), len(train) - held_out
            self.parts |= {name: Subset(train, part) for name, part in (("train", whole[:left]), ("val", whole[left:]))}  # type: ignore[arg-type]
        self.size, self.mirror, self.seed = (size[0], size[1]), mirror, seed
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers

    def samples(self, split: str, mirror: bool = False) -> Samples:
        """UserError where the config gives no such split."""
        if split not in self.parts:
            raise UserError(f"this stage needs data.{split}; the config gives none")
        return Samples(self.parts[split], self.size, mirror)

    def train_dataloader(self) -> DataLoader:
        samples = self.samples("train", self.mirror)
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> Any:
        return self.ordered("val") if "val" in self.parts else []

    def test_dataloader(self) -> DataLoader:
        return DataLoader([0])  # type: ignore[arg-type]

    def ordered(self, split: str, limit: int | None = None) -> DataLoader:
        """A split's samples, or `limit` of them spread evenly, in order and without chance."""
        samples: Dataset = self.samples(split)
        count = len(samples)  # type: ignore[arg-type]
        if limit is not None and limit < count:
            samples = Subset(samples, np.linspace(0, count - 1, limit).round().astype(int).tolist())
        generator = torch.Generator()  # the loader's own draws must not advance the global one
        return DataLoader(samples, self.eval_batch_size, num_workers=self.num_workers, generator=generator)
