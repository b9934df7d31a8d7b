"""Scenes as batches for promptable segmentation: preprocessed images, masks with prompts, stored teacher embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from common.data.prompts import jitter_boxes, sample_point_pairs, tight_boxes
from common.data.scene import Masks, Scene, SceneSource
from common.data.stores import ArrayStore
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError
from common.models.sam import preprocess, scale_boxes, scale_points


@dataclass
class SceneBatch:
    """Whole scenes, in order, for evaluation and for precomputing.

    Attributes:
        index: position of each scene in its source, int64 [B].
        images: preprocessed, float32 [B, 3, S, S].
        sizes: (h, w) of the area of each image that shows it, before padding.
        scenes: the scenes themselves.
    """

    index: Tensor
    images: Tensor
    sizes: list[tuple[int, int]]
    scenes: list[Scene]

    def to(self, device: torch.device) -> "SceneBatch":
        """With the images on a device; the scenes stay where they are. Lightning calls it."""
        return replace(self, images=self.images.to(device, non_blocking=True))


class PromptSamples:
    """Training samples: an image and, for mask losses, some of its masks with a prompt of each kind.

    A sample is a dict: `image` float32 [3, S, S]; with an embedding store `embedding` [C, h, w]; with `instances` K > 0
    `masks` bool [K, S/m, S/m], `coords` [K, 2, 2] (a foreground point, then a background point), `labels` [K, 2] and
    `boxes` [K, 4] (jittered), all in the frame of the preprocessed image; m is `mask_stride`. Masks are drawn without
    replacement while they last. `first` leaves all but that many scenes of the source out.
    """

    def __init__(
        self,
        source: SceneSource,
        image_size: int,
        mask_stride: int = 4,
        instances: int = 0,
        embeddings: ArrayStore | None = None,
        cache: bool = False,
        augment: bool = False,
        first: int | None = None,
    ):
        self.source, self.image_size, self.mask_stride, self.instances = source, image_size, mask_stride, instances
        self.embeddings, self.augment = embeddings, augment
        self.cache: dict[int, Scene] | None = {} if cache else None
        self.length = len(source) if first is None else min(first, len(source))

    def __len__(self) -> int:
        return self.length

    def _scene(self, index: int) -> Scene:
        if self.cache is None:
            return self.source[index]
        if index not in self.cache:
            self.cache[index] = self.source[index]
        return self.cache[index]

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        scene = self._scene(index)
        if self.augment:
            scene = random_view(scene, rng)
        image, size = preprocess(scene.image, self.image_size)
        sample = {"image": image}
        if self.embeddings is not None:
            sample["embedding"] = torch.from_numpy(np.array(self.embeddings[index])).float()
        if self.instances:
            sample |= self._prompts(scene, size, rng)
        return sample

    def _prompts(self, scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> dict[str, Tensor]:
        masks: Masks = scene.masks
        found = dict(islice(self._visible(masks, size, rng.permutation(len(masks))), self.instances))
        if not found:  # nothing to segment here: the whole image is the one mask
            masks = np.ones((1, *scene.image.shape[:2]), bool)
            found = dict(self._visible(masks, size, np.array([0])))
        chosen = np.resize(list(found), self.instances)
        shape = scene.image.shape[:2]
        drawn = masks[chosen]
        coords, labels = sample_point_pairs(drawn, 0.2 * max(shape), rng)
        boxes = jitter_boxes(tight_boxes(drawn), shape, rng)
        return {
            "masks": torch.stack([found[k] for k in chosen.tolist()]),
            "coords": torch.from_numpy(scale_points(coords, shape, self.image_size)).float(),
            "labels": torch.from_numpy(labels),
            "boxes": torch.from_numpy(scale_boxes(boxes, shape, self.image_size)).float(),
        }

    def _visible(self, masks: Masks, size: tuple[int, int], order: np.ndarray) -> Iterator[tuple[int, Tensor]]:
        """Masks in an order, each with itself at low resolution, without those that vanish there.

        One by one: the hundred masks of a photograph, resized together, would take seconds and gigabytes.
        """
        for k in order.tolist():
            low = low_resolution(masks[k : k + 1], size, self.image_size, self.mask_stride)[0]
            if low.any():
                yield k, low


def random_view(scene: Scene, rng: np.random.Generator, smallest: float = 0.5, min_area: float = 0.002) -> Scene:
    """A random crop of a scene, at its own aspect ratio, flipped left to right half of the time.

    Args:
        smallest: side of the smallest crop over the image's side.
        min_area: masks of which less than this share of the crop is left are dropped.
    """
    height, width = scene.image.shape[:2]
    side = rng.uniform(smallest, 1)
    h, w = max(1, round(side * height)), max(1, round(side * width))
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
    image = np.ascontiguousarray(scene.image[y : y + h, x : x + w][:, mirror])
    masks = np.ascontiguousarray(np.asarray(scene.masks)[:, y : y + h, x : x + w][:, :, mirror])
    return Scene(image, masks[masks.sum((1, 2)) >= max(1, min_area * h * w)], scene.name)


def low_resolution(masks: np.ndarray, size: tuple[int, int], image_size: int, stride: int) -> Tensor:
    """Masks in the frame and at the resolution of SAM's decoder: bool [K, H, W] -> bool [K, S/stride, S/stride].

    A low-resolution pixel belongs to a mask that covers at least half of it.
    """
    if not len(masks):
        return torch.zeros(0, image_size // stride, image_size // stride, dtype=torch.bool)
    resized = F.interpolate(torch.from_numpy(masks)[None].float(), size=size, mode="area")
    square = F.pad(resized, (0, image_size - size[1], 0, image_size - size[0]))
    return F.avg_pool2d(square, stride)[0] >= 0.5


class _Scenes(Dataset):
    """A source in order, as `(index, scene)`; `indices` selects."""

    def __init__(self, source: SceneSource, indices: list[int]):
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, Scene]:
        index = self.indices[position]
        return index, self.source[index]


def _collate(items: list[tuple[int, Scene]], image_size: int) -> SceneBatch:
    inputs = [preprocess(scene.image, image_size) for _, scene in items]
    return SceneBatch(
        torch.tensor([index for index, _ in items]),
        torch.stack([image for image, _ in inputs]),
        [size for _, size in inputs],
        [scene for _, scene in items],
    )


class PromptableData(L.LightningDataModule):
    """Sources of scenes for each split, at SAM's input size.

    Args:
        train: scenes to train on, and to precompute features of.
        val: scenes for learning curves and tuning.
        test: scenes for the reported figures.
        image_size: side S of the square input, pixels; the longer side of an image is scaled to it.
        mask_stride: input pixels per pixel of the decoder's masks, a quarter of SAM's patch size.
        batch_size: images per step and process.
        instances: masks (each with its prompts) drawn from an image per step; 0 for losses that need none.
        val_instances: masks drawn from a validation image.
        embeddings: folder of stored teacher embeddings of `train`, row for row.
        val_embeddings: the same of `val`.
        first: train on the first so many images of `train` only; its stored embeddings stay those of all of it.
        num_workers: processes that load data; 0 loads in the training process.
        cache: keep decoded scenes in memory (for small data sets).
        augment: train on random crops and flips; not together with stored embeddings, which belong to whole images.
        seed: order of the training stream; linked to `seed_everything` by the training scripts.
    """

    def __init__(
        self,
        train: SceneSource | None = None,
        val: SceneSource | None = None,
        test: SceneSource | None = None,
        image_size: int = 1024,
        mask_stride: int = 4,
        batch_size: int = 8,
        instances: int = 0,
        val_instances: int = 4,
        embeddings: str | None = None,
        val_embeddings: str | None = None,
        first: int | None = None,
        num_workers: int = 0,
        cache: bool = False,
        augment: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.sources = {
            name: Tolerant(s) for name, s in (("train", train), ("val", val), ("test", test)) if s is not None
        }
        self.image_size, self.mask_stride, self.batch_size = image_size, mask_stride, batch_size
        self.instances, self.val_instances = instances, val_instances
        self.embeddings, self.val_embeddings, self.first = embeddings, val_embeddings, first
        self.num_workers, self.cache, self.seed = num_workers, cache, seed
        self.augment = augment
        if first is not None and first < 1:
            raise UserError(f"data.first is {first}: train on one image at least")
        if augment and embeddings:
            raise UserError("data.augment changes the images, so stored embeddings (data.embeddings) do not fit them")
        self.pending: dict[str, list[int]] = {}
        """Scenes of a split that `predict` still has to see, if not all of them. A stage that resumes sets it."""

    def _source(self, split: str) -> Tolerant:
        if split not in self.sources:
            raise UserError(f"this stage needs data.{split}; the config gives none")
        return self.sources[split]

    def train_dataloader(self) -> DataLoader:
        source = self._source("train")
        store = self._store(self.embeddings, source)
        samples = PromptSamples(
            source, self.image_size, self.mask_stride, self.instances, store, self.cache, self.augment, self.first
        )
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers)

    def _store(self, folder: str | None, source: SceneSource) -> ArrayStore | None:
        """Stored embeddings of a source; UserError where they are those of other images."""
        if folder is None:
            return None
        store = ArrayStore.open(folder)
        if len(store) != len(source):
            raise UserError(
                f"{folder} holds {len(store)} embeddings for {len(source)} images: compute them again from these images"
            )
        return store

    def val_dataloader(self) -> Any:
        if "val" not in self.sources:
            return []
        source = self.sources["val"]
        store = self._store(self.val_embeddings, source)
        samples = PromptSamples(source, self.image_size, self.mask_stride, self.val_instances, store, self.cache)
        return DataLoader(
            _Fixed(samples, self._mine(len(samples))),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            generator=torch.Generator(),
        )

    def test_dataloader(self) -> list[DataLoader]:
        """`test`, then `val` where there is one (for the premises of claims), image by image."""
        sources = [self._source("test"), *(self.sources[name] for name in ("val",) if name in self.sources)]
        return [self._ordered(source, list(self._mine(len(source))), 1) for source in sources]

    def predict_dataloader(self) -> list[DataLoader]:
        """`train`, then `val` where there is one, in order: for stages that write features or labels."""
        loaders = []
        for split in ("train", "val"):
            if split in self.sources:
                source = self.sources[split]
                mine = self.pending.get(split, list(self._mine(len(source))))
                loaders.append(self._ordered(source, mine, self.batch_size))
        return loaders

    def _mine(self, length: int) -> range:
        """Positions of this process's share of a source."""
        assert self.trainer is not None  # Lightning sets it before it asks for a loader
        return range(self.trainer.global_rank, length, self.trainer.world_size)

    def _ordered(self, source: SceneSource, indices: list[int], batch_size: int) -> DataLoader:
        return DataLoader(
            _Scenes(source, indices),
            batch_size=batch_size,
            collate_fn=partial(_collate, image_size=self.image_size),
            num_workers=self.num_workers,
            generator=torch.Generator(),
        )


class _Fixed(Dataset):
    """Samples whose random parts are the same each time: validation."""

    def __init__(self, samples: PromptSamples, indices: range):
        self.samples, self.indices = samples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        index = self.indices[position]
        return self.samples.draw(index, np.random.default_rng(index))
