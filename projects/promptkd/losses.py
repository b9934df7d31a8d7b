"""PromptKD's distillation loss, PromptSRC's consistency terms, which tune the teacher, and its weights of epochs."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common.losses.distillation import forward_kl


def distillation_loss(student: Tensor, teacher: Tensor, weight: float = 1000.0, temperature: float = 1.0) -> Tensor:
    """weight * T^2 * sum KL(softmax(teacher / T) || softmax(student / T)) / (B N), as released.

    The sum is divided by classes as well as pictures, which is why the weight is large: with a mean over pictures it
    would be weight / N.

    Args:
        student, teacher: logits [B, N]; the teacher's are detached.
    """
    return weight * temperature**2 * forward_kl(student, teacher.detach(), temperature) / student.shape[1]


class Consistency(NamedTuple):
    """The terms of a prompt's training, unweighted (Khattak et al. 2023, as released)."""

    labels: Tensor
    text: Tensor
    image: Tensor
    logits: Tensor

    def total(self, text_weight: float, image_weight: float) -> Tensor:
        return self.labels + text_weight * self.text + image_weight * self.image + self.logits


def promptsrc_terms(
    images: Tensor, vectors: Tensor, plain_images: Tensor, plain_vectors: Tensor, labels: Tensor, scale: Tensor
) -> Consistency:
    """Cross-entropy of prompted features, and how far these have gone from those of the model without prompts.

    Args:
        images: unit features of pictures with prompts, [B, D].
        vectors: unit class vectors with prompts, [N, D].
        plain_images, plain_vectors: the same without prompts.
        labels: int64 [B].
        scale: of the logits.
    """
    logits, plain = scale * images @ vectors.T, scale * plain_images @ plain_vectors.T
    return Consistency(
        F.cross_entropy(logits, labels),
        F.l1_loss(vectors, plain_vectors),
        F.l1_loss(images, plain_images),
        forward_kl(logits, plain) / logits.shape[1],
    )


def epoch_weights(epochs: int, mean: float = 15.0, std: float = 1.0) -> Tensor:
    """Of the weights after epochs 1, 2, ... in their average: a normal density, normalised. float64 [epochs]."""
    places = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-((places - mean) ** 2) / (2 * std**2), 0)
