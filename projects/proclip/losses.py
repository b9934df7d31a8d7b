"""ProCLIP's two alignment terms, which both stages have; `common.losses.contrastive.clip_loss` is the third.

Both are sums, as in the released code: the first grows with the batch, the second with its square, so that a weight
holds for one batch size alone. With several processes each has the terms of its own rows.
"""

from torch import Tensor
from torch.nn import functional as F


def instance_alignment(student: Tensor, teacher: Tensor) -> Tensor:
    """L_ins = sum_i ||s_i - t_i||^2: each embedding lies where its teacher's does. 2 sum_i (1 - cos) for unit rows.

    Args:
        student, teacher: [B, D], normalised by whoever calls; the teacher is detached.

    Example:
        loss = instance_alignment(z, t) + structure_alignment(z, t)
    """
    return F.mse_loss(student.float(), teacher.detach().float(), reduction="sum")


def structure_alignment(student: Tensor, teacher: Tensor) -> Tensor:
    """L_struct = sum_{i<j} smooth_l1(||s_i - s_j||, ||t_i - t_j||), beta 1: a batch keeps its distances.

    A pair that coincides in the student has no direction to part in: it adds to the loss and has no gradient.

    Args:
        student, teacher: [B, D], normalised by whoever calls; the teacher is detached.
    """
    # no matrix product of norms, whose rounding makes distances of equal rows
    return F.smooth_l1_loss(F.pdist(student.float()), F.pdist(teacher.detach().float()), reduction="sum")
