"""Labelled pictures: the augmentation that the paper trains with, evaluation by centre crops."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

from common.data.images import IMAGENET_MEAN, IMAGENET_STD, Picture, PictureData, Pictures, PictureSource, square
from common.data.stream import Draws, Stream, stream_loader
from common.errors import UserError

Augmentation = Literal["none", "crops", "full"]
PAD = 4
"""Pixels on each side before a random crop of small pictures."""


class Part(PictureSource):
    """Successive pictures of a source: CIFAR-10 has no validation split, so the last of its training pictures serve.

    Args:
        source: where they are.
        start: number of the first.
        count: how many.
    """

    def __init__(self, source: PictureSource, start: int, count: int):
        if start < 0 or count < 1 or start + count > len(source):
            raise UserError(f"pictures {start} to {start + count - 1} are wanted, of {len(source)}")
        self.rows, self.start, self.count, self.classes = source, start, count, source.classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Picture:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.rows[self.start + index]


class RepeatedStream(Stream):
    """A stream that draws a sample several times in a row, each time with a generator of its own (repeated
    augmentation). An epoch is as long as ever: it has the first n / repeats samples of its order. Positions that follow
    each other fall to different processes, where there are several.
    """

    def __init__(self, samples: Draws, seed: int, repeats: int):
        super().__init__(samples, seed)
        self.repeats = repeats

    def __getitem__(self, position: int) -> Any:
        epoch, offset = divmod(position, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, 0, epoch)).permutation(len(self))
        index = int(self._order[offset // self.repeats])
        return self.samples.draw(index, np.random.default_rng((self.seed, 1, position)))


class Samples(Pictures):
    """Pictures as samples: {image float32 [3, S, S], normalised, and label}.

    Args:
        size: S, pixels.
        resize: of the shorter side, before a centre crop of S.
        augmentation: none; crops of small pictures, padded, mirrored half of the time; or what the paper trains with:
            a part of the picture, mirrored, RandAugment, colour jitter, random erasing by noise.
        policy: RandAugment's, as timm writes it.
    """

    def __init__(
        self, source: PictureSource, size: int, resize: int, augmentation: Augmentation, policy: str, cache: bool
    ):
        super().__init__(source, size, cache=cache)
        self.resize, self.augmentation = resize, augmentation
        ends = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        if augmentation == "full":
            self.transform = create_transform(
                size, is_training=True, color_jitter=0.4, auto_augment=policy, interpolation="bicubic", re_prob=0.25,
                re_mode="pixel",
            )  # fmt: skip
            for step in self.transform.transforms:
                for operation in getattr(step, "ops", ()):
                    if operation.aug_fn is posterize:
                        operation.aug_fn = keep_bits
        elif augmentation == "crops":
            crop = transforms.RandomCrop(size, PAD)
            self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *ends])
        else:
            self.transform = transforms.Compose(ends)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        picture = self.picture(index)
        image = Image.fromarray(picture.image if self.augmentation == "full" else self.centre(picture.image))
        if self.augmentation == "none":
            return {"image": self.transform(image), "label": picture.label}
        with chance(rng):
            return {"image": self.transform(image), "label": picture.label}

    def centre(self, image: np.ndarray) -> np.ndarray:
        """The shorter side scaled to `resize`, then the middle: uint8 [H, W, 3] -> [S, S, 3]."""
        scaled, edge = square(image, self.resize), (self.resize - self.size) // 2
        return scaled[edge : edge + self.size, edge : edge + self.size]


def keep_bits(image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    """Posterize. Now and then timm keeps no bit at all, which is black and refused by Pillow: one is kept."""
    return posterize(image, max(1, bits), **settings)


@contextmanager
def chance(rng: np.random.Generator) -> Iterator[None]:
    """Python's, NumPy's and torch's generators, from which augmentations draw, follow `rng` for a while."""
    seed = int(rng.integers(2**32))
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class LabelledPictures(PictureData):
    """Pictures of each split; a test goes through the test pictures, then those of validation.

    Args:
        train: pictures to train on.
        val: pictures for learning curves and tuning.
        test: pictures for the reported figures.
        image_size: side S of the pictures, pixels.
        resize: of the shorter side, before a centre crop; None takes S.
        batch_size: pictures per step and process.
        augmentation: of training pictures (see `Samples`).
        policy: RandAugment's, as timm writes it.
        repeats: augmentations of a picture that follow each other (repeated augmentation).
        num_workers: processes that load data; 0 loads in the training process.
        cache: keep decoded pictures in memory (for small data sets).
        seed: order of the training stream, and its augmentation.
    """

    def __init__(
        self,
        train: PictureSource | None = None,
        val: PictureSource | None = None,
        test: PictureSource | None = None,
        image_size: int = 224,
        resize: int | None = None,
        batch_size: int = 64,
        augmentation: Augmentation = "none",
        policy: str = "rand-m9-mstd0.5-inc1",
        repeats: int = 1,
        num_workers: int = 0,
        cache: bool = False,
        seed: int = 0,
    ):
        super().__init__(train, val, test, image_size, batch_size, num_workers=num_workers, cache=cache, seed=seed)
        self.resize = image_size if resize is None else resize
        if self.resize < image_size or repeats < 1:
            raise UserError(
                f"data.resize is {resize} and data.repeats {repeats}: at least image_size, {image_size}, and 1"
            )
        self.augmentation, self.policy, self.repeats = augmentation, policy, repeats

    def samples(self, split: str, augmentation: Augmentation) -> Samples:
        return Samples(self.source(split), self.image_size, self.resize, augmentation, self.policy, self.cache)

    def train_dataloader(self) -> DataLoader:
        samples = self.samples("train", self.augmentation)
        once = stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers)
        if self.repeats == 1:
            return once
        return DataLoader(
            RepeatedStream(samples, self.seed, self.repeats),
            self.batch_size,
            sampler=once.sampler,  # it continues where a restored run stands
            num_workers=self.num_workers,
            drop_last=True,
            persistent_workers=once.persistent_workers,
            pin_memory=once.pin_memory,
            generator=once.generator,
        )

    def test_dataloader(self) -> Any:
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]

    def ordered(self, split: str, limit: int | None = None) -> DataLoader:
        """A split's pictures (the first `limit` of them) in order and without chance; every process has its own."""
        samples = self.samples(split, "none")
        count = len(samples) if limit is None else min(limit, len(samples))
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        own = Subset(samples, range(rank, count, world))
        return DataLoader(own, self.batch_size, num_workers=self.num_workers, generator=torch.Generator())
