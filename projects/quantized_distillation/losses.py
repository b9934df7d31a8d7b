"""The distillation loss of Polino et al. 2018, as released: Hinton's, its soft term divided by the classes too."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from common.losses.distillation import forward_kl

Divided = Literal["elements", "batch"]


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float = 2.0,
    weight: float = 0.7,
    divided: Divided = "elements",
) -> Tensor:
    """weight T^2 KL(softmax(t / T) || softmax(s / T)) + (1 - weight) CE(s, y).

    Args:
        student, teacher: logits [B, C]; the teacher's are detached.
        labels: classes, int64 [B].
        divided: what the KL's sum is divided by: batch and classes, as in the official code, or the batch alone.
    """
    soft = forward_kl(student, teacher.detach(), temperature)
    if divided == "elements":
        soft = soft / student.shape[1]
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, labels)
