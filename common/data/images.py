"""Pictures with a label and a caption, and the data module for stages that learn from them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue in [0, 1]


@dataclass
class Picture:
    """An image with what is said of it.

    Attributes:
        image: uint8 RGB, [H, W, 3].
        label: index of its class; -1 where there is none.
        caption: "" where there is none.
        name: unique within its source.
    """

    image: np.ndarray
    label: int
    caption: str
    name: str


class PictureSource(ABC):
    """A random-access collection of pictures; the same index always gives the same one.

    Attributes:
        classes: names of the classes; empty where pictures have no label.
        blocks: numbers of pictures that lie together and are read whole; empty where any picture is as near as another.
    """

    classes: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Picture: ...


class Pictures(Dataset):
    """A source as samples: {image float32 [3, S, S] in [0, 1], label, caption, index}.

    An unreadable picture is replaced by the next readable one, up to 0.1 % of the source's.
    """

    def __init__(self, source: PictureSource, size: int, random: bool = False, cache: bool = False):
        self.source = Tolerant(source)  # type: ignore[arg-type]  # it never looks at what it passes on
        self.blocks = source.blocks
        self.size, self.random = size, random
        self.cache: dict[int, Picture] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> Picture:
        """A picture, decoded once if they are cached."""
        if self.cache is None:
            return self.source[index]  # type: ignore[return-value]
        if index not in self.cache:
            self.cache[index] = self.source[index]  # type: ignore[assignment]
        return self.cache[index]

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        picture = self.picture(index)
        image = square(picture.image, self.size, rng if self.random else None)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return {"image": pixels, "label": picture.label, "caption": picture.caption, "index": index}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.draw(index, np.random.default_rng(index))


def square(image: np.ndarray, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The shorter side scaled to `size`, then a square: uint8 [H, W, 3] -> [size, size, 3].

    Args:
        rng: random place, mirrored half of the time; None takes the centre.
    """
    height, width = image.shape[:2]
    if min(height, width) != size:
        scale = size / min(height, width)
        shape = (max(size, round(width * scale)), max(size, round(height * scale)))
        image = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
        height, width = image.shape[:2]
    if rng is None:
        y, x, step = (height - size) // 2, (width - size) // 2, 1
    else:
        y, x = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        step = -1 if rng.random() < 0.5 else 1
    return np.ascontiguousarray(image[y : y + size, x : x + size][:, ::step])


class PictureData(L.LightningDataModule):
    """Sources of pictures for each split.

    Args:
        train: pictures to train on.
        val: pictures for learning curves and tuning.
        test: pictures for the reported figures.
        image_size: side S of the square pictures, pixels.
        batch_size: pictures per step and process.
        augment: train on random crops, mirrored half of the time, instead of the centre.
        num_workers: processes that load data; 0 loads in the training process.
        cache: keep decoded pictures in memory (for small data sets).
        seed: order of the training stream; linked to `seed_everything` by the training scripts.
    """

    def __init__(
        self,
        train: PictureSource | None = None,
        val: PictureSource | None = None,
        test: PictureSource | None = None,
        image_size: int = 256,
        batch_size: int = 64,
        augment: bool = True,
        num_workers: int = 0,
        cache: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.sources = {name: s for name, s in (("train", train), ("val", val), ("test", test)) if s is not None}
        self.image_size, self.batch_size, self.augment = image_size, batch_size, augment
        self.num_workers, self.cache, self.seed = num_workers, cache, seed

    def source(self, split: str) -> PictureSource:
        """The source of a split; UserError where the config gives none."""
        if split not in self.sources:
            raise UserError(f"this stage needs data.{split}; the config gives none")
        return self.sources[split]

    def train_dataloader(self) -> DataLoader:
        samples = Pictures(self.source("train"), self.image_size, random=self.augment, cache=self.cache)
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> Any:
        return self.ordered("val") if "val" in self.sources else []

    def test_dataloader(self) -> DataLoader:
        return self.ordered("test")

    def predict_dataloader(self) -> list[DataLoader]:
        """Every split that there is, in order, one after the other."""
        return [self.ordered(split) for split in self.sources]

    def ordered(self, split: str, limit: int | None = None) -> DataLoader:
        """A split's pictures (the first `limit` of them) in order and without chance; every process has its own."""
        samples = Pictures(self.source(split), self.image_size)
        count = len(samples) if limit is None else min(limit, len(samples))
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            _Part(samples, range(rank, count, world)),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            generator=torch.Generator(),
        )


class _Part(Dataset):
    def __init__(self, samples: Pictures, indices: range):
        self.samples, self.indices = samples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.samples[self.indices[position]]


def to_uint8(images: Tensor) -> np.ndarray:
    """Pictures for people: float [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3]."""
    return (images.detach().float().clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
