"""Macro F1 of several labels, and the one threshold for all classes at which it is best."""

import torch
from torch import Tensor

THRESHOLDS = torch.arange(5, 96) / 100
"""0.05 to 0.95 in steps of 0.01, as in the paper."""


def f1_scores(found: Tensor, labels: Tensor) -> Tensor:
    """F1 of each class [C], of answers and labels [N, C] (bool); 0 for a class without either, as in scikit-learn."""
    hits = (found & labels).sum(0).double()
    return 2 * hits / (found.sum(0) + labels.sum(0)).clamp(min=1)


def macro_f1(found: Tensor, labels: Tensor) -> Tensor:
    """Mean F1 of the classes that some text has; a class that the set lacks does not count."""
    present = labels.any(0)
    if not present.any():
        raise ValueError("no text has a label")
    return f1_scores(found, labels)[present].mean().float()


def micro_f1(found: Tensor, labels: Tensor) -> Tensor:
    """F1 over all decisions together."""
    return (2 * (found & labels).sum() / (found.sum() + labels.sum()).clamp(min=1)).float()


def sweep(scores: Tensor, labels: Tensor) -> Tensor:
    """Macro F1 at each of THRESHOLDS, of scores [N, C] in 0..1; from the threshold on an emotion is an answer."""
    return torch.stack([macro_f1(scores >= threshold, labels) for threshold in THRESHOLDS])


def chosen(scores: Tensor, labels: Tensor) -> float:
    """The threshold with the best macro F1; of equal ones the middle one."""
    values = sweep(scores, labels)
    best = (values == values.max()).nonzero().flatten()
    return THRESHOLDS[best[len(best) // 2]].item()
