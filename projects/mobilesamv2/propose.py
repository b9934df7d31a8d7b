"""From prompts to mask proposals of an image: SAM's decoder in chunks, and the filters that a grid of points needs.

Boxes of a detector get one mask each and no filter (MobileSAMv2 §4.3). A grid of points gets three masks a point, and
SAM's filters in SAM's order: predicted IoU, stability, image border, non-maximum suppression.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils import amg
from torch import Tensor
from torchvision.ops import nms

from common.data.prompts import Prompts, point_prompts
from common.evaluators.detection import encode_masks
from common.models.sam import postprocess_masks, scale_points

CHUNK = {1: 320, 3: 64}
"""Prompts that the decoder answers at once, by the masks of each: the official code's for boxes, SAM's for points."""


@dataclass(frozen=True)
class Filters:
    """What SAM's automatic mask generation keeps; the defaults are its own.

    Args:
        min_iou: least IoU that the decoder predicts for its mask.
        min_stability: least IoU of the mask under thresholds of +1 and -1 in place of 0.
        overlap: of two masks whose boxes have a larger IoU the one with the better predicted IoU stays.
    """

    min_iou: float = 0.88
    min_stability: float = 0.95
    overlap: float = 0.7


@dataclass
class Proposals:
    """Masks of one image as COCO's run-length encodings, with scores [N], and the prompts that were decoded."""

    masks: list[dict[str, Any]]
    scores: Tensor
    prompts: int


def grid_points(side: int, shape: tuple[int, int], image_size: int) -> Prompts:
    """side x side points, row by row, at the centres of equal cells of an image (H, W), in the preprocessed frame."""
    points = amg.build_point_grid(side) * np.array(shape[::-1])
    return point_prompts(scale_points(points, shape, image_size)[:, None], np.ones((side * side, 1)))


def centres(boxes: Tensor) -> Prompts:
    """The middle point of each box [N, 4]."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return point_prompts(middle[:, None].cpu().numpy(), np.ones((len(boxes), 1)))


def decode(
    sam: Sam, embedding: Tensor, prompts: Prompts, multimask: bool, chunk: int
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Masks for the prompts of one image, chunk by chunk: which prompts, logits [n, M, 4h, 4w], predicted IoU [n, M].

    The image's embedding [1, C, h, w] and the positions are the same for all prompts and computed once; the decoder
    itself repeats them for a chunk, never for all prompts.
    """
    places = sam.prompt_encoder.get_dense_pe()
    for start in range(0, len(prompts), chunk):
        part = slice(start, start + chunk)
        points = (prompts.coords[part], prompts.labels[part]) if prompts.coords.shape[1] else None
        boxes = None if prompts.boxes is None else prompts.boxes[part]
        sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
        logits, iou = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=places,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        yield part, logits, iou


@torch.no_grad()
def propose(
    sam: Sam,
    embedding: Tensor,
    prompts: Prompts,
    size: tuple[int, int],
    shape: tuple[int, int],
    masks: int = 1,
    scores: Tensor | None = None,
    filters: Filters | None = None,
    chunk: int | None = None,
) -> Proposals:
    """All masks of an image; none where there is no prompt, or none passes the filters.

    Args:
        embedding: of the image, [1, C, h, w].
        prompts: N of them, in the preprocessed frame.
        size: (h, w) of the area of the preprocessed frame that shows the image.
        shape: (H, W) of the image itself, at which masks are compared and filtered.
        masks: for each prompt: 1, the one for clear prompts, or all those for ambiguous ones.
        scores: of the prompts [N], which their masks inherit; None ranks masks by their predicted IoU.
        filters: what is kept; None keeps everything.
        chunk: prompts that are decoded at once; None for `CHUNK`.
    """
    found: list[dict[str, Any]] = []
    boxes, ranks = [torch.zeros(0, 4, device=embedding.device)], [torch.zeros(0, device=embedding.device)]
    prompts = prompts.to(embedding.device)
    frame = [0, 0, shape[1], shape[0]]
    for part, low, predicted in decode(sam, embedding, prompts, masks > 1, chunk or CHUNK[masks]):
        logits = postprocess_masks(low, sam.image_encoder.img_size, size, shape).flatten(0, 1)
        iou = predicted.flatten()
        rank = iou if scores is None else scores[part].repeat_interleave(predicted.shape[1])
        if filters is not None:
            sure = iou > filters.min_iou
            logits, iou, rank = logits[sure], iou[sure], rank[sure]
            stable = amg.calculate_stability_score(logits, sam.mask_threshold, 1.0) >= filters.min_stability
            logits, iou, rank = logits[stable], iou[stable], rank[stable]
        drawn = logits > sam.mask_threshold
        around = amg.batched_mask_to_box(drawn)
        if filters is not None:
            inside = ~amg.is_box_near_crop_edge(around, frame, frame)  # cuts crops alone: here the crop is the image
            drawn, around, rank = drawn[inside], around[inside], rank[inside]
        found += encode_masks(drawn.cpu().numpy())
        boxes.append(around.float())
        ranks.append(rank)
    rank = torch.cat(ranks)
    if filters is not None:
        kept = nms(torch.cat(boxes), rank, filters.overlap)
        found, rank = [found[k] for k in kept.tolist()], rank[kept]
    return Proposals(found, rank, len(prompts))
