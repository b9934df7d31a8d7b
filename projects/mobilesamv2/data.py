"""Scenes as the detector learns from them: all boxes of an image, and some of its masks."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.data.promptable import PromptableData, low_resolution, random_view
from common.data.prompts import tight_boxes
from common.data.scene import SceneSource
from common.data.stream import stream_loader
from common.models.sam import preprocess, scale_boxes


class DetectionSamples:
    """Training samples: `image` float32 [3, S, S], `boxes` [G, 4] of its objects; with `instances` K > 0 up to K of
    its `masks`, bool [k, S/stride, S/stride], with their boxes `masked` [k, 4]. All are in the frame of the image."""

    def __init__(self, source: SceneSource, image_size: int, stride: int, instances: int, augment: bool, cache: bool):
        self.source, self.image_size, self.stride, self.instances = source, image_size, stride, instances
        self.augment = augment
        self.cache: dict[int, Any] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        if self.cache is None or index not in self.cache:
            scene = self.source[index]
            if self.cache is not None:
                self.cache[index] = scene
        else:
            scene = self.cache[index]
        if self.augment:
            scene = random_view(scene, rng)
        image, size = preprocess(scene.image, self.image_size)
        shape = scene.image.shape[:2]
        # mask by mask: the hundred masks of a photograph of SA-1B would take a third of a gigabyte
        found = [(k, tight_boxes(mask)[0]) for k in range(len(scene.masks)) if (mask := scene.masks[k : k + 1]).any()]
        boxes = scale_boxes(np.array([box for _, box in found], np.float32).reshape(-1, 4), shape, self.image_size)
        chosen = rng.permutation(len(found))[: self.instances]
        drawn = np.array([found[k][0] for k in chosen], dtype=int)
        return {
            "image": image,
            "boxes": torch.from_numpy(boxes).float(),
            "masks": low_resolution(np.asarray(scene.masks[drawn]), size, self.image_size, self.stride),
            "masked": torch.from_numpy(boxes[chosen]).float(),
        }


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Images as one tensor; the rest, of which images have different numbers, as lists."""
    batch: dict[str, Any] = {name: [sample[name] for sample in samples] for name in samples[0]}
    batch["image"] = torch.stack(batch["image"])
    return batch


class DetectionData(PromptableData):
    """`PromptableData` whose training and validation batches are those of `DetectionSamples`.

    `instances` is the number of masks of an image that are learnt from; 0 for boxes alone.
    """

    def _samples(self, split: str, instances: int, augment: bool) -> DetectionSamples:
        return DetectionSamples(self._source(split), self.image_size, self.mask_stride, instances, augment, self.cache)

    def train_dataloader(self) -> DataLoader:
        samples = self._samples("train", self.instances, self.augment)
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers, collate)

    def val_dataloader(self) -> Any:
        if "val" not in self.sources:
            return []
        samples = self._samples("val", 0, False)
        mine = [samples.draw(k, np.random.default_rng(k)) for k in self._mine(len(samples))]
        return DataLoader(mine, batch_size=self.batch_size, collate_fn=collate, generator=torch.Generator())
