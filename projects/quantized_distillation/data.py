"""Labelled pictures: parts of a source, examples drawn by the seed with some labels wrong, padded crops."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from common.data.images import Picture, PictureData, Pictures, PictureSource, square
from common.data.stream import stream_loader
from common.errors import UserError
from projects.quantized_distillation.model import CLASSES


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
        return self.rows[self.start + index]


class Drawn(PictureSource):
    """Examples of a source, drawn by a seed; a share of them with a label that is another class's.

    Args:
        count: how many; None takes all.
        wrong: share of wrong labels, each of the other classes as likely.
    """

    def __init__(self, source: PictureSource, count: int | None, wrong: float, seed: int):
        if count is not None and not 1 <= count <= len(source):
            raise UserError(f"data.train_examples is {count}: there are {len(source)} pictures")
        if not 0 <= wrong < 1:
            raise UserError(f"data.wrong is {wrong}: a share from 0 to less than 1")
        rng = np.random.default_rng((seed, 2))
        self.rows, self.classes = source, source.classes
        self.order = rng.permutation(len(source))[:count]
        self.shift = np.where(rng.random(len(self.order)) < wrong, rng.integers(1, CLASSES, len(self.order)), 0)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Picture:
        found = self.rows[int(self.order[index])]
        label = (found.label + int(self.shift[index])) % CLASSES
        return Picture(found.image, label, found.caption, found.name)


class Crops(Pictures):
    """Pictures for training: padded with black, cropped to their size at a random place, mirrored half of the time.

    They are decoded and padded once: (uint8 [S, S, 3], label).
    """

    def __init__(self, source: PictureSource, size: int, pad: int):
        super().__init__(source, size)
        self.pad = pad
        self.padded: dict[int, tuple[np.ndarray, int]] = {}

    def draw(self, index: int, rng: np.random.Generator) -> Any:
        pad, side = self.pad, self.size
        if index not in self.padded:
            picture = self.picture(index)
            self.padded[index] = np.pad(square(picture.image, side), ((pad, pad), (pad, pad), (0, 0))), picture.label
        image, label = self.padded[index]
        down, right, mirror = rng.random(3)
        y, x = int(down * (2 * pad + 1)), int(right * (2 * pad + 1))
        return image[y : y + side, x : x + side][:, :: -1 if mirror < 0.5 else 1], label


def collate(samples: list[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
    """{image float32 [B, 3, S, S] in [0, 1], label int64 [B]}."""
    images = torch.from_numpy(np.stack([image for image, _ in samples]))
    labels = torch.tensor([label for _, label in samples])
    return {"image": images.permute(0, 3, 1, 2).float().contiguous() / 255, "label": labels}


class LabelledData(PictureData):
    """Training pictures drawn by the seed; a test goes through the test pictures, then those of validation.

    Args:
        train: pictures to train on.
        val: pictures for learning curves and tuning.
        test: pictures for the reported figures.
        image_size: side S of the pictures, pixels.
        batch_size: pictures per step and process.
        eval_batch_size: pictures per step of validation and test.
        pad: black pixels on each side before a random crop.
        train_examples: train on this many pictures; None takes all.
        wrong: share of training pictures whose label is wrong.
        num_workers: processes that load data; 0 loads in the training process.
        seed: which pictures, which labels, which order.
    """

    def __init__(
        self,
        train: PictureSource | None = None,
        val: PictureSource | None = None,
        test: PictureSource | None = None,
        image_size: int = 32,
        batch_size: int = 25,
        eval_batch_size: int = 250,
        pad: int = 4,
        train_examples: int | None = None,
        wrong: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(train, val, test, image_size, eval_batch_size, num_workers=num_workers, seed=seed)
        self.train_batch, self.pad = batch_size, pad
        if train is not None:
            self.sources["train"] = Drawn(train, train_examples, wrong, seed)

    def train_dataloader(self) -> DataLoader:
        samples = Crops(self.source("train"), self.image_size, self.pad)
        return stream_loader(samples, self.train_batch, self.trainer, self.seed, self.num_workers, collate)

    def first(self, count: int) -> dict[str, Any]:
        """The first training pictures, as they are, in one batch: the same ones in every process."""
        samples = Pictures(self.source("train"), self.image_size)
        return default_collate([samples[k] for k in range(min(count, len(samples)))])

    def test_dataloader(self) -> Any:
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]
