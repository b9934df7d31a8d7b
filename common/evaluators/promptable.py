"""Promptable segmentation: how well predicted masks overlap their references."""

import torch
from torch import Tensor
from torchmetrics import Metric


def mask_iou(pred: Tensor, target: Tensor) -> Tensor:
    """|A and B| / |A or B| of binary masks, bool [..., H, W] (broadcast together) -> float32 [...].

    Two empty masks agree perfectly: 1.
    """
    intersection = (pred & target).sum((-2, -1))
    union = (pred | target).sum((-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


class MeanMaskIoU(Metric):
    """mIoU of promptable segmentation: the mean over all prompts of all images, each prompt counting once.

    MobileSAM §3.2 takes SAM ViT-H's masks for the same prompts as targets. Two empty masks count as 1. Images may
    differ in size: update once an image then. NaN before the first update.

    Example:
        >>> metric = MeanMaskIoU()
        >>> metric.update(torch.ones(2, 4, 4).bool(), torch.eye(4).bool().expand(2, 4, 4))
        >>> metric.compute()
        tensor(0.2500)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add N prompts: `pred` and `target` bool [N, H, W]. ValueError for other types or unequal shapes."""
        if pred.dtype != torch.bool or target.dtype != torch.bool:
            raise ValueError(f"masks must be bool (threshold logits at 0 first), not {pred.dtype} and {target.dtype}")
        if pred.shape != target.shape:
            raise ValueError(f"predicted masks {list(pred.shape)}, targets {list(target.shape)}: shapes must be equal")
        self.total += mask_iou(pred, target).sum(dtype=self.total.dtype)
        self.count += len(pred)

    def compute(self) -> Tensor:
        """Mean IoU, float32 scalar in [0, 1]."""
        return (self.total / self.count).float()
