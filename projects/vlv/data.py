"""What VLV's stages read: pictures with captions to train on, and pictures to be judged on."""

from typing import Any

import numpy as np
from pydantic import PositiveInt
from torch.utils.data import DataLoader

from common.data.images import PictureData, Pictures, PictureSource
from common.data.stream import stream_loader
from common.errors import UserError


class CaptionData(PictureData):
    """Pictures with captions, of which a part may be trained on.

    Args:
        pairs: train on so many of the training pictures, drawn with the seed; None for all.
    """

    def __init__(
        self,
        train: PictureSource | None = None,
        val: PictureSource | None = None,
        image_size: int = 384,
        batch_size: int = 8,
        num_workers: int = 0,
        pairs: PositiveInt | None = None,
        seed: int = 0,
    ):
        super().__init__(train, val, None, image_size, batch_size, False, num_workers, seed=seed)
        self.pairs = pairs

    def train_dataloader(self) -> DataLoader:
        samples = Pictures(self.source("train"), self.image_size)
        if self.pairs is None:
            chosen = samples
        elif self.pairs > len(samples):
            raise UserError(f"data.pairs is {self.pairs}, but there are only {len(samples)} pictures: lower it")
        else:
            order = np.random.default_rng((self.seed, 2)).permutation(len(samples))
            chosen = Part(samples, order[: self.pairs])
        return stream_loader(chosen, self.batch_size, self.trainer, self.seed, self.num_workers)


class Part:
    """Some of the pictures."""

    def __init__(self, samples: Pictures, indices: np.ndarray):
        self.samples, self.indices = samples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        return self.samples.draw(int(self.indices[index]), rng)


class JudgedPictures(PictureData):
    """The test's pictures, and behind them those of the validation, if the config gives any: premises rest on them."""

    def test_dataloader(self) -> list[DataLoader]:  # type: ignore[override]
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]
