"""Scenes as the detector learns from them: all boxes of an image, and some of its masks."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.data.promptable import PromptableData, PromptSamples, low_resolution, random_view
from common.data.prompts import tight_boxes
from common.data.stream import stream_loader
from common.models.sam import preprocess, scale_boxes


class DetectionSamples(PromptSamples):
    """Training samples: `image` float32 [3, S, S], `boxes` [G, 4] of its objects; with `instances` K > 0 up to K of
    its `masks`, bool [k, S/m, S/m], with their boxes `masked` [k, 4]. All are in the frame of the image; m is
    `mask_stride`."""

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        scene = self._scene(index)
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
            "masks": low_resolution(np.asarray(scene.masks[drawn]), size, self.image_size, self.mask_stride),
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

    def train_dataloader(self) -> DataLoader:
        source = self._source("train")
        samples = DetectionSamples(
            source, self.image_size, self.mask_stride, self.instances, cache=self.cache, augment=self.augment
        )
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers, collate)

    def val_dataloader(self) -> Any:
        if "val" not in self.sources:
            return []
        samples = DetectionSamples(self.sources["val"], self.image_size, self.mask_stride)
        mine = [samples.draw(k, np.random.default_rng(k)) for k in self._mine(len(samples))]
        return DataLoader(mine, batch_size=self.batch_size, collate_fn=collate, generator=torch.Generator())
