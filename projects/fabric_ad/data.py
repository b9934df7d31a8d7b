"""Batches of cloth: pictures without a fault to train on, held-out ones with and without a painted fault, tests."""

import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.data.images import square
from common.data.scene import UnreadableSample
from common.data.stream import stream_loader
from common.errors import UserError
from projects.fabric_ad.defects import FAULTS, spoil
from projects.fabric_ad.sources import Cloth, FabricSource, Sample, Split

Batch = dict[str, Tensor]
"""image float32 [B, 3, S, S] in [0, 1]; in tests also defective, bool [B], masked, whether its mask is known, bool [B],
and mask, bool [B, S, S]."""


class Cloths(Dataset[Batch]):
    """Samples of a source as batches want them: scaled to S and cropped to the middle.

    Args:
        source: what decodes them.
        samples: which.
        size: side S, pixels.
        painted: each sample twice, as it is and with a fault painted onto it (validation).
    """

    def __init__(self, source: FabricSource, samples: list[Sample], size: int, painted: bool = False):
        self.source, self.list, self.size, self.painted = source, samples, size, painted
        self.known: dict[int, Cloth] = {}

    def __len__(self) -> int:
        return len(self.list) * (2 if self.painted else 1)

    def cloth(self, index: int) -> Cloth:
        """A sample in the size that is wanted, decoded once."""
        if index not in self.known:
            try:
                found = self.source.read(self.list[index])
            except UnreadableSample as error:
                raise UserError(f"{error}: download it again, or remove it") from error
            mask = None if found.mask is None else square_mask(found.mask, self.size)
            self.known[index] = Cloth(square(found.image, self.size), found.defective, mask)
        return self.known[index]

    def draw(self, index: int, rng: np.random.Generator) -> Batch:
        """To train on: as it is. The official code changes nothing from epoch to epoch."""
        return {"image": pixels(self.cloth(index).image)}

    def __getitem__(self, index: int) -> Batch:
        if not self.painted:
            found = self.cloth(index)
        else:
            found = self.cloth(index // 2)
            if index % 2:
                fault = list(FAULTS)[index // 2 % len(FAULTS)]
                image, mask = spoil(found.image, fault, np.random.default_rng((7, index)))
                found = Cloth(image, True, mask)
        mask = found.mask if found.mask is not None else np.zeros(found.image.shape[:2], bool)
        return {
            "image": pixels(found.image),
            "defective": torch.tensor(found.defective),
            "masked": torch.tensor(found.mask is not None),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        }


def pixels(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [0, 1]."""
    return torch.tensor(image).permute(2, 0, 1).float() / 255


def square_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool [H, W] scaled and cropped as its picture: a pixel counts where it is touched at all, [S, S]."""
    height, width = mask.shape
    scale = size / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    scaled = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(shape, Image.Resampling.BOX)) > 0
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


class FabricData(L.LightningDataModule):
    """One kind of cloth, or several at once, to train on; tests go through the categories one after the other.

    Args:
        source: where pictures are.
        categories: kinds of cloth: all of them are trained on together, and each is tested by itself.
        image_size: side S, pixels.
        batch_size: pictures a step and process.
        eval_batch_size: pictures a step of validation and test.
        num_workers: processes that load data; 0 loads in the training process.
        seed: order of the training pictures.
    """

    def __init__(
        self,
        source: FabricSource,
        categories: list[str],
        image_size: int = 256,
        batch_size: int = 4,
        eval_batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        if not categories:
            raise UserError("data.categories is empty: name the kinds of cloth")
        self.source, self.categories, self.image_size, self.seed = source, categories, image_size, seed
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train = Cloths(source, [s for name in categories for s in source.samples(name, "train")], image_size)

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self.train, self.batch_size, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._ordered([s for name in self.categories for s in self.source.samples(name, "val")])

    def test_dataloader(self) -> list[DataLoader]:
        """Of each category its tests, and its held-out pictures with and without a painted fault."""
        return [
            loader
            for name in self.categories
            for loader in (self.of(name, "test"), self._ordered(self.source.samples(name, "val"), painted=True))
        ]

    def of(self, category: str, split: Split) -> DataLoader:
        """A category's pictures of a split in order."""
        return self._ordered(self.source.samples(category, split))

    def _ordered(self, samples: list[Sample], painted: bool = False) -> DataLoader:
        if not samples:
            raise UserError(f"no pictures to validate or test on, of {', '.join(self.categories)}: give more data")
        cloths = Cloths(self.source, samples, self.image_size, painted)
        return DataLoader(cloths, self.eval_batch_size, num_workers=self.num_workers, generator=torch.Generator())
