"""Pictures of a domain: few with labels for the teacher, many without for the student, base and novel ones to test."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from common.data.images import Picture, PictureData, Pictures, PictureSource
from common.data.readers.zero_shot_sets import base_classes
from common.data.stream import stream_loader
from common.errors import UserError

SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Of a random crop: its share of the picture's area, its width over its height; how often a place is looked for."""


class Chosen(PictureSource):
    """Some pictures of a source, each class's drawn by a seed.

    Args:
        per_class: at most so many of each class; None for all.
        classes: only of the first so many classes.

    Raises:
        UserError: pictures without labels, where a choice needs them.
    """

    def __init__(self, source: PictureSource, per_class: int | None, classes: int, seed: int):
        self.source, self.classes = source, source.classes
        self.order = np.arange(len(source))
        if per_class is None and classes == len(source.classes):
            return
        labels = np.array(labels_of(source))
        if (labels < 0).any():
            raise UserError("pictures without labels cannot be drawn by class: leave data.per_class and data.base out")
        rng = np.random.default_rng((seed, 3))
        drawn = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(classes)]
        self.order = np.sort(np.concatenate(drawn))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Picture:
        return self.source[int(self.order[index])]


def labels_of(source: PictureSource) -> list[int]:
    """Labels of all pictures; only where a source does not keep them are its pictures looked at."""
    labels: list[int] | None = getattr(source, "labels", None)
    return labels if labels is not None else [source[index].label for index in range(len(source))]


class Crops(Pictures):
    """Training pictures: a random part of any size and proportions, mirrored half of the time."""

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        picture = self.picture(index)
        image = random_crop(picture.image, self.size, rng)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return {"image": pixels, "label": picture.label, "index": index}


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip: uint8 [H, W, 3] -> [size, size, 3]."""
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = height * width * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:  # the middle, as near to the proportions as there is room
        w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
        y, x = (height - h) // 2, (width - w) // 2
    cut = Image.fromarray(image[y : y + h, x : x + w]).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(cut)[:, :: -1 if rng.random() < 0.5 else 1].copy()


class DomainData(PictureData):
    """Pictures of a domain. A test goes through the test pictures, then those of validation.

    Args:
        train: pictures to train on.
        val: pictures for learning curves and tuning.
        test: pictures for the reported figures.
        image_size: side S of the square pictures, pixels.
        batch_size: pictures per step and process.
        eval_batch_size: pictures per step of validation and test.
        augment: train on random crops; else on whole pictures.
        per_class: train on so many pictures of each class, drawn by the seed; None for all.
        base: train on pictures of the base classes alone, the first half; a stage of labels learns these classes only.
        templates: sentences for a class's name, {}; None takes the one that the set has.
        num_workers: processes that load data; 0 loads in the training process.
        cache: keep decoded pictures in memory (for small data sets).
        seed: which pictures, and their order.
    """

    def __init__(
        self,
        train: PictureSource | None = None,
        val: PictureSource | None = None,
        test: PictureSource | None = None,
        image_size: int = 224,
        batch_size: int = 8,
        eval_batch_size: int = 100,
        augment: bool = True,
        per_class: int | None = None,
        base: bool = False,
        templates: list[str] | None = None,
        num_workers: int = 0,
        cache: bool = False,
        seed: int = 0,
    ):
        super().__init__(train, val, test, image_size, eval_batch_size, augment, num_workers, cache, seed)
        self.train_batch, self.base = batch_size, base
        any_source = next(iter(self.sources.values()), None)
        if any_source is None or not any_source.classes:
            raise UserError("a domain needs pictures whose classes have names: data.train, data.val or data.test")
        self.classes = list(any_source.classes)
        if other := [split for split, source in self.sources.items() if list(source.classes) != self.classes]:
            raise UserError(
                f"data.{other[0]} has other classes than data.{next(iter(self.sources))}: give pictures of one set"
            )
        self.templates = templates or [getattr(any_source, "template", "a photo of a {}.")]
        if train is not None:
            self.sources["train"] = Chosen(train, per_class, len(self.known), seed)

    @property
    def known(self) -> list[str]:
        """Names of the classes that training is about."""
        return self.classes[: base_classes(len(self.classes))] if self.base else self.classes

    def train_dataloader(self) -> DataLoader:
        kind = Crops if self.augment else Pictures
        samples = kind(self.source("train"), self.image_size, cache=self.cache)
        return stream_loader(samples, self.train_batch, self.trainer, self.seed, self.num_workers)

    def test_dataloader(self) -> Any:
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]


def links(parser: Any) -> None:
    """Between a stage's model and its data: the seed, the classes and the sentences for their names."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    parser.link_arguments("data.templates", "model.templates", apply_on="instantiate")


def links_of_known(parser: Any) -> None:
    """The same, but for a stage that is about the base classes alone where its data are."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.known", "model.classes", apply_on="instantiate")
