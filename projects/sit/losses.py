"""Feature recalibration distillation (FRD): the loss, and the schedule of its learning rates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common.losses.distillation import forward_kl
from projects.sit.model import Seen


class Weights(NamedTuple):
    """Of the terms, and the temperature tau of the logits' term."""

    token: float = 2.0
    logits: float = 2.0
    hard: float = 1.0
    temperature: float = 1.0


class Terms(NamedTuple):
    """The loss, and what it is the sum of: each with its weight."""

    total: Tensor
    classes: Tensor
    token: Tensor
    logits: Tensor
    hard: Tensor


def token_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared error of tokens [B, N, D], averaged over all blocks, those before the first slimming too."""
    return torch.stack([F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True)]).mean()


def frd_loss(
    student: Seen,
    labels: Tensor,
    teacher: Seen | None,
    weights: Weights,
    smoothing: float = 0.0,
    other: Tensor | None = None,
) -> Terms:
    """L_cls + lambda_token L_token + lambda_logits L_logits + lambda_hard L_hard.

    Args:
        student: its tokens are recovered ones, as many as the teacher's, where lambda_token is not 0.
        labels: classes [B], or their probabilities [B, C].
        teacher: what the unslimmed network has seen in the same pictures; None leaves both of its terms out.
        smoothing: of labels that are classes.
        other: logits [B, C] of another teacher, whose answer the second token learns.
    """
    classes = F.cross_entropy(student.logits, labels, label_smoothing=smoothing)
    token = logits = hard = torch.zeros_like(classes)
    if teacher is not None and weights.token:
        token = weights.token * token_loss(student.tokens, teacher.tokens)
    if teacher is not None and weights.logits:
        tau = weights.temperature
        logits = weights.logits * tau**2 * forward_kl(student.logits, teacher.logits, tau)
    if other is not None and student.hard is not None:
        hard = weights.hard * F.cross_entropy(student.hard, other.argmax(1))
    return Terms(classes + token + logits + hard, classes, token, logits, hard)


def learning_rates(epoch: int, lr: float, least: float, epochs: int, times: float = 5.0) -> tuple[float, float]:
    """Of the network and of RTSM: cosines over `epochs`, then the least rate.

    Follows adjust_learning_rate of the official code, in which both end at the same rate.
    """
    if epoch >= epochs:
        return least, least
    cosine = (1 + math.cos(epoch / epochs * math.pi)) / 2
    return least + cosine * (lr - least), least + cosine * (times * lr - least)
