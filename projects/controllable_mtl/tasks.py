"""Tasks: what a decoder predicts, its loss, and the figure by which it is judged."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError

Kind = Literal["class", "segments", "depth", "normals", "edges"]
IGNORED = 255
"""A label of pixels, or of pictures, that count neither for the loss nor for the figure."""
SHARES = ("class", "segments")
"""Kinds whose figure is best at 1; that of the others is an error."""


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: of its decoder and of its targets in a batch.
        kind: "class" of the picture (accuracy); "segments", a class for each pixel (mean IoU); "depth" (root mean
            square error); "normals", unit vectors (mean angle, degrees); "edges" (the balanced cross-entropy).
        outputs: channels: the number of classes, 3 for normals, 1 for depth and edges.
        floor: the figure of a constant answer, where scores and hypervolumes begin.
        weight: of its loss in the sum, lambda_k.
    """

    name: str
    kind: Kind
    outputs: int
    floor: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        wanted = {"depth": 1, "normals": 3, "edges": 1}.get(self.kind)
        if self.outputs < 1 or (wanted and self.outputs != wanted):
            raise UserError(f"task {self.name}: {self.outputs} outputs, where {wanted or 'at least 1'} belong")
        if not (0 <= self.floor < 1 if self.kind in SHARES else self.floor > 0):
            raise UserError(f"task {self.name}: floor {self.floor}; give the figure of a constant answer")

    @property
    def pooled(self) -> bool:
        return self.kind == "class"

    def score(self, figure: float) -> float:
        """Where a figure lies between its floor, 0, and perfection, 1."""
        return (figure - self.floor) / (1 - self.floor) if self.kind in SHARES else 1 - figure / self.floor

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Scalar; 0 where nothing of the batch counts.

        Args:
            output: the decoder's; [B, K], or [B, K, h, w], which is scaled to the target's size.
            target: int64 [B] or [B, H, W]; depth float [B, 1, H, W] with 0 where it is not known; normals
                [B, 3, H, W] with zero vectors there; edges [B, 1, H, W] in {0, 1}, IGNORED where not known.
        """
        output = self.scaled(output, target)
        if self.kind in SHARES:
            lost = F.cross_entropy(output, target, ignore_index=IGNORED, reduction="sum")
            return lost / (target != IGNORED).sum().clamp(min=1)
        known = self.known(target)
        if self.kind == "edges":
            return balanced(output, target, known)
        predicted = F.normalize(output, dim=1) if self.kind == "normals" else output
        return ((predicted - target).abs() * known).sum() / known.expand_as(target).sum().clamp(min=1)

    def scaled(self, output: Tensor, target: Tensor) -> Tensor:
        if self.pooled:
            return output.float()
        return F.interpolate(output.float(), target.shape[-2:], mode="bilinear", align_corners=False)

    def known(self, target: Tensor) -> Tensor:
        """Pixels that count, float [B, 1, H, W]."""
        if self.kind == "edges":
            return (target != IGNORED).float()
        return (target.abs().sum(1, keepdim=True) > 0).float()

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """What adds up over batches to give `figure`: float64, [2] (a sum and how many), or [K, K] of segments."""
        output = self.scaled(output, target)
        if self.kind == "segments":
            valid = target != IGNORED
            pairs = target[valid] * self.outputs + output.argmax(1)[valid]
            return torch.bincount(pairs, minlength=self.outputs**2).double().reshape(self.outputs, self.outputs)
        if self.kind == "class":
            valid = target != IGNORED
            values, counted = (output.argmax(1) == target).double() * valid, valid.double()
        else:
            counted = self.known(target).double()
            if self.kind == "edges":
                values = balanced(output, target, counted.float()).double() * counted.sum()
            elif self.kind == "depth":
                values = (output - target).double().square() * counted
            else:
                cosine = (F.normalize(output, dim=1) * F.normalize(target, dim=1)).sum(1, keepdim=True)
                values = torch.rad2deg(torch.arccos(cosine.double().clamp(-1, 1))) * counted
        return torch.stack([values.sum(), counted.sum()])

    def figure(self, statistics: Tensor) -> float:
        """NaN where nothing counted."""
        if self.kind == "segments":
            hits, union = statistics.diag(), statistics.sum(0) + statistics.sum(1) - statistics.diag()
            return float((hits / union)[union > 0].mean())
        mean = float(statistics[0] / statistics[1])
        return mean**0.5 if self.kind == "depth" else mean


def balanced(logits: Tensor, target: Tensor, known: Tensor, positive: float = 0.95) -> Tensor:
    """Cross-entropy of rare edges: `positive` is their weight, 1 - positive that of all other pixels; [B, 1, H, W]."""
    edges = (target == 1).float()
    weights = known * (positive * edges + (1 - positive) * (1 - edges))
    lost = F.binary_cross_entropy_with_logits(logits, edges, weights, reduction="sum")
    return lost / known.sum().clamp(min=1)


def invariance(features: Tensor, teacher: Tensor) -> Tensor:
    """Configuration-invariant distillation: squared distance of unit vectors, averaged over positions.

    Positions without any feature on either side are equal, which a cosine would not see.

    Args:
        features: of a SubNet's encoder, [B, C, h, w].
        teacher: the SuperNet's, detached.
    """
    return (F.normalize(features, dim=1) - F.normalize(teacher, dim=1)).square().sum(1).mean()
