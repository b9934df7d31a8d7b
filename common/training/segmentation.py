"""One training step of SAM through its masks: shared by the teacher's own training and by the coupled students."""

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from common.data.prompts import Prompts
from common.losses.segmentation import MaskLoss, sam_mask_loss
from common.models.sam import predict_masks

KINDS = ("point", "two_points", "box")


def batch_prompts(batch: dict[str, Tensor], kind: str) -> Prompts:
    """The prompts of one kind of a batch of `PromptSamples`, as N = B*K prompt sets.

    Args:
        kind: "point" (one foreground point), "two_points" (and one background point) or "box".
    """
    images, instances = batch["masks"].shape[:2]
    image = torch.arange(images, device=batch["masks"].device).repeat_interleave(instances)
    coords, labels = batch["coords"].flatten(0, 1), batch["labels"].flatten(0, 1)
    points = {"point": 1, "two_points": 2, "box": 0}[kind]
    return Prompts(
        coords[:, :points], labels[:, :points], batch["boxes"].flatten(0, 1) if kind == "box" else None, image
    )


def mask_step(sam: Sam, embeddings: Tensor, batch: dict[str, Tensor]) -> MaskLoss:
    """SAM's loss for prompts of a randomly drawn kind.

    A single point is ambiguous and answered with three masks, of which the best is trained; a second point or a box
    settles what is meant and is answered with one (SAM, appendix A).

    Args:
        embeddings: [B, C, h, w].
        batch: of `PromptSamples`, with masks.
    """
    kind = KINDS[int(torch.randint(len(KINDS), ()))]
    logits, iou = predict_masks(sam, embeddings, batch_prompts(batch, kind), multimask=kind == "point")
    return sam_mask_loss(logits, iou, batch["masks"].flatten(0, 1))


def best_mask(logits: Tensor, iou: Tensor) -> Tensor:
    """The mask that the model itself rates best: logits [N, M, H, W] and predicted IoU [N, M] -> [N, H, W]."""
    return logits[torch.arange(len(logits), device=logits.device), iou.argmax(1)]
