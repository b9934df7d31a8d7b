"""Pictures with a true caption and false ones: to train on, and to tell apart."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from common.data.images import Pictures, PictureSource, square
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError


@dataclass
class Item:
    """A picture and what is said of it.

    Attributes:
        image: uint8 RGB, [H, W, 3].
        caption: the true one.
        foils: false ones that are near it.
    """

    image: np.ndarray
    caption: str
    foils: tuple[str, ...]


class ItemSource(ABC):
    """A random-access collection of items, all with the same number of foils."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Item: ...


class Items(Dataset):
    """A source as samples {image float32 [3, S, S] in [0, 1], texts: the caption and its foils}.

    Args:
        size: S.
        crop: train on crops of 90 to 100 % of the area, as open_clip does, and never mirrored: captions say left and
            right. Otherwise the middle square is taken.
    """

    def __init__(self, source: ItemSource, size: int, crop: bool = False):
        self.source = Tolerant(source)  # type: ignore[arg-type]  # it never looks at what it passes on
        self.size, self.crop = size, crop

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        item: Item = self.source[index]  # type: ignore[assignment]
        image = cropped(item.image, self.size, rng) if self.crop else square(item.image, self.size)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return {"image": pixels, "texts": (item.caption, *item.foils)}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.draw(index, np.random.default_rng(index))


def cropped(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random rectangle of 90 to 100 % of the area, its sides 3:4 to 4:3, as a square: uint8 -> [size, size, 3].

    Where ten tries do not fit into the picture, its middle square is taken.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area, ratio = rng.uniform(0.9, 1) * height * width, math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            part = Image.fromarray(image[y : y + h, x : x + w])
            return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)).copy()
    return square(image, size)


def together(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples as a batch: image [B, 3, S, S], texts a list of B tuples of the caption and its foils."""
    return {"image": torch.stack([s["image"] for s in samples]), "texts": [s["texts"] for s in samples]}


class CompositionData(L.LightningDataModule):
    """Captions with negatives to train on; benches of captions and foils, and sets of labelled pictures, to test on.

    Args:
        train: to train on.
        benches: to tell captions from foils on, by the metric's name; names that end in _val are of validation.
        sets: to classify without training, by the metric's name, likewise.
        image_size: side S of the pictures, pixels.
        batch_size: pictures per step and process.
        crop: train on random crops.
        num_workers: processes that load data.
        seed: order of the training stream.
    """

    def __init__(
        self,
        train: ItemSource | None = None,
        benches: dict[str, ItemSource] | None = None,
        sets: dict[str, PictureSource] | None = None,
        image_size: int = 224,
        batch_size: int = 32,
        crop: bool = True,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.train, self.benches, self.sets = train, benches or {}, sets or {}
        self.image_size, self.batch_size, self.crop = image_size, batch_size, crop
        self.num_workers, self.seed = num_workers, seed

    def train_dataloader(self) -> DataLoader:
        if self.train is None:
            raise UserError("nothing to train on: give data.train")
        samples = Items(self.train, self.image_size, self.crop)
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers, together)

    def test_dataloader(self) -> list[DataLoader]:
        """The benches, and then the sets; every process has its part of each."""
        if not self.benches and not self.sets:
            raise UserError("nothing to test on: give data.benches or data.sets")
        found = [self.part(Items(source, self.image_size), together) for source in self.benches.values()]
        return [*found, *(self.part(Pictures(source, self.image_size), None) for source in self.sets.values())]

    def part(self, samples: Any, collate: Any) -> DataLoader:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        mine = torch.utils.data.Subset(samples, range(rank, len(samples), world))
        return DataLoader(
            mine, self.batch_size, num_workers=self.num_workers, collate_fn=collate, generator=torch.Generator()
        )
