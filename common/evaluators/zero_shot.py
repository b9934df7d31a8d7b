"""Zero-shot figures of image-text models: classes by the nearest class vector, the right caption among wrong ones."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class ZeroShot(Metric):
    """Share of the pictures whose nearest class vector is that of their class.

    Args:
        vectors: of the classes, [C, D], of length 1 where cosines are meant.
        among: classes that are asked for, as base or novel ones; pictures of others are left out. None for all.

    Example:
        metric = ZeroShot(clip.class_vectors(names, templates), among=range(10))
        metric.update(clip.images(images), labels)
    """

    higher_is_better = True
    full_state_update = False
    correct: Tensor
    count: Tensor

    def __init__(self, vectors: Tensor, among: Sequence[int] | None = None):
        super().__init__()
        self.vectors = vectors.detach()
        self.among = torch.arange(len(vectors)) if among is None else torch.tensor(list(among), dtype=torch.long)
        self.add_state("correct", torch.zeros((), dtype=torch.float64), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), "sum")

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Vectors of pictures [B, D] and their classes [B]."""
        among = self.among.to(images.device)
        asked = torch.isin(labels, among)
        found = (images[asked] @ self.vectors.to(images)[among].T).argmax(1)
        self.correct += (among[found] == labels[asked]).sum()
        self.count += asked.sum()

    def compute(self) -> Tensor:
        """NaN where no picture was of these classes."""
        return self.correct / self.count


class CaptionChoice(Metric):
    """Share of the pictures whose caption scores above all of its foils; of captions as good as it one is drawn.

    A model that cannot tell them apart has 1 / (1 + foils).
    """

    higher_is_better = True
    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.zeros((), dtype=torch.float64), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), "sum")

    def update(self, caption: Tensor, foils: Tensor) -> None:
        """Scores of the captions [B] and of their foils [B, K]. One that is no number counts as wrong."""
        beaten = (foils <= caption[:, None]).all(1)
        ties = (foils == caption[:, None]).sum(1)
        self.right += (beaten.double() / (1 + ties)).sum()
        self.count += len(caption)

    def compute(self) -> Tensor:
        return self.right / self.count


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are: of base and novel accuracy (Xian et al. 2017)."""
    return 2 * a * b / (a + b) if a + b else 0.0
