"""Detection without and with classes: average recall of the K best proposals, and COCO's average precision."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Pixels of an object, both ends included, as in COCO's evaluation."""


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """bool [N, H, W] -> N run-length encodings of COCO's."""
    return coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)) if len(masks) else []


def match_ranks(iou: np.ndarray, thresholds: np.ndarray = IOU_THRESHOLDS) -> np.ndarray:
    """Which proposal finds each object: greedy, one to one, in the order of the proposals, as COCO's evaluation.

    Each proposal takes the free object with the largest IoU, if that reaches the threshold; of equals the last.

    Args:
        iou: [N proposals, G objects].
        thresholds: [T].

    Returns:
        int64 [T, G]: the proposal's row, N where none finds the object. The first K proposals alone would find those
        objects whose row is below K.
    """
    count, objects = iou.shape
    found = np.full((len(thresholds), objects), count)
    for t, threshold in enumerate(np.minimum(thresholds, 1 - 1e-10)):
        for row in range(count) if objects else ():
            free = np.where(found[t] == count, iou[row], -1.0)
            best = objects - 1 - int(free[::-1].argmax())
            if free[best] >= threshold:
                found[t, best] = row
    return found


class AverageRecall(Metric):
    """AR@K of class-agnostic proposals: recall of the K best of each image, over all objects of all images, averaged
    over IoU thresholds from 0.5 to 0.95 (COCO's and LVIS' `AR` with useCats = 0).

    Crowd regions are none of the objects: a proposal that marks one takes nothing from the others.

    Args:
        top: the values of K.
        areas: names of object sizes with the least and the largest number of pixels; each is scored by itself, among
            the objects of that size.

    Example:
        >>> metric = AverageRecall([10], {})
        >>> masks = torch.eye(4).bool()[:, None]  # four objects of a pixel in an image of 1 x 4
        >>> metric.update(encode_masks(masks[:3].numpy()), torch.tensor([0.9, 0.5, 0.7]), encode_masks(masks.numpy()))
        >>> metric.compute()
        {'ar_10': tensor(0.7500)}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    found: Tensor
    objects: Tensor

    def __init__(self, top: Sequence[int], areas: Mapping[str, tuple[float, float]] = COCO_AREAS):
        super().__init__()
        self.top, self.areas = tuple(top), {"": (0.0, 1e10), **areas}
        shape = (len(self.areas), len(IOU_THRESHOLDS), len(self.top))
        self.add_state("found", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("objects", torch.zeros(shape[0], dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, proposals: list[dict[str, Any]], scores: Tensor, truth: list[dict[str, Any]]) -> None:
        """Add an image: N proposals with scores [N], and its objects, all as run-length encodings of COCO's.

        Of equal scores the first counts as the better one.
        """
        if len(proposals) != len(scores):
            raise ValueError(f"{len(proposals)} proposals have {len(scores)} scores")
        order = torch.argsort(scores, descending=True, stable=True)[: max(self.top)].tolist()
        chosen = [proposals[k] for k in order]
        iou = np.zeros((len(chosen), len(truth)))
        if chosen and truth:
            iou = coco_mask.iou(chosen, truth, [0] * len(truth))
        sizes = np.array([float(coco_mask.area(mask)) for mask in truth])
        for k, (least, most) in enumerate(self.areas.values()):
            own = (sizes >= least) & (sizes <= most)
            ranks = match_ranks(iou[:, own])
            hits = np.stack([((ranks < n) & (ranks < len(chosen))).sum(1) for n in self.top], -1)
            self.found[k] += torch.from_numpy(hits).to(self.found)
            self.objects[k] += int(own.sum())

    def compute(self) -> dict[str, Tensor]:
        """`ar_<K>` and `ar_<K>_<size>`, float32 scalars in [0, 1]; NaN where there is no object."""
        recall = (self.found / self.objects[:, None, None]).mean(1).float()
        return {
            f"ar_{top}{f'_{name}' if name else ''}": recall[k, n]
            for k, name in enumerate(self.areas)
            for n, top in enumerate(self.top)
        }


class AveragePrecision(MeanAveragePrecision):
    """COCO's AP, from torchmetrics, for any number of detections an image.

    torchmetrics' own `map` is -1 unless 100 detections are among its thresholds; here it is read off the precisions.
    Called as `MeanAveragePrecision` is: dicts of `boxes` (x0, y0, x1, y1) or `masks`, `scores` and `labels` against
    dicts of the same, with `iscrowd` where there are crowd regions.

    Args:
        kind: what overlaps: "bbox" or "segm".
        most: detections of an image that count.
        class_agnostic: all labels count as one.
    """

    def __init__(self, kind: Literal["bbox", "segm"] = "bbox", most: int = 100, class_agnostic: bool = False):
        super().__init__(
            iou_type=kind,
            max_detection_thresholds=[most, most + 1, most + 2],  # it wants three
            average="micro" if class_agnostic else "macro",
            extended_summary=True,
        )
        self.warn_on_many_detections = False

    def compute(self) -> dict[str, Tensor]:
        """`ap`, `ap_50`, `ap_75`, and `ap_small`, `ap_medium`, `ap_large`; NaN where there is no object."""
        # [IoU thresholds, recalls, classes, areas (all, small, medium, large), numbers of detections], -1 for none
        precision = super().compute()["precision"][..., 0]
        chosen = {"ap": (slice(None), 0), "ap_50": (0, 0), "ap_75": (5, 0)}
        chosen |= {f"ap_{name}": (slice(None), k) for k, name in enumerate(COCO_AREAS, 1)}
        found = {name: precision[threshold][..., area] for name, (threshold, area) in chosen.items()}
        return {name: values[values > -1].mean() for name, values in found.items()}
