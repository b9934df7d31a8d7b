"""The Sinkhorn distance between a batch of student predictions and a batch of teacher predictions (section 3).

    loss = sinkhorn_loss(student_logits, teacher_logits.detach())      # [B, C], [B, C] -> scalar

Row i of the cost belongs to student sample i, column j to teacher sample j. All functions are batched: leading
dimensions are batches that know nothing of each other.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError

UNDERFLOW = 80.0  # exp(-80) is 1.8e-35, well inside float32's normal numbers
LARGEST_COST = 2.0  # L1 distance of two probability vectors


def pairwise_l1(p: Tensor, q: Tensor) -> Tensor:
    """D_ij = ||p_i - q_j||_1: [..., B, C], [..., B', C] -> [..., B, B'], from 0 to 2 for probabilities."""
    return torch.cdist(p, q, p=1)


def normalise(kernel: Tensor, iterations: int) -> Tensor:
    """Sinkhorn's alternating normalisation: every row by its sum, then every column by its sum.

    Args:
        kernel: positive, [..., B, B].

    Returns:
        The plan, [..., B, B]: columns sum to exactly 1, rows nearly, so that its mass is B.
    """
    for _ in range(iterations):
        kernel = kernel / kernel.sum(-1, keepdim=True)
        kernel = kernel / kernel.sum(-2, keepdim=True)
    return kernel


def log_normalise(log_kernel: Tensor, iterations: int) -> Tensor:
    """`normalise` on logarithms, for kernels that underflow: log kernel [..., B, B] -> log plan [..., B, B]."""
    for _ in range(iterations):
        log_kernel = log_kernel - log_kernel.logsumexp(-1, keepdim=True)
        log_kernel = log_kernel - log_kernel.logsumexp(-2, keepdim=True)
    return log_kernel


def sinkhorn_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The entropic transport plan [..., B, B] of a cost [..., B, B] between 0 and 2, with unit row and column sums.

    Small `epsilon` would underflow exp(-cost / epsilon); there the same iterations run on logarithms.
    """
    if LARGEST_COST / epsilon > UNDERFLOW:
        return log_normalise(-cost / epsilon, iterations).exp()
    return normalise(torch.exp(-cost / epsilon), iterations)


def transport_cost(p: Tensor, q: Tensor, epsilon: float = 0.1, iterations: int = 20) -> Tensor:
    """sum_ij plan_ij D_ij between two sets of probability vectors, [..., B, C] each -> [...].

    The gradient flows through the cost and through every iteration. Where p_i = q_j the L1 norm's is taken as 0.
    """
    cost = pairwise_l1(p, q)
    return (sinkhorn_plan(cost, epsilon, iterations) * cost).sum((-2, -1))


def sinkhorn_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    epsilon: float = 0.1,
    iterations: int = 20,
    group: int | None = None,
) -> Tensor:
    """L_SD of logits [B, C]: the transport cost between the softened predictions, summed over the batch, unweighted.

    A student sample may be matched with any teacher sample of its group, so 0 does not mean equal predictions: L_SD
    needs cross-entropy or soft labels beside it. It takes float32 or better: pass `logits.float()` under mixed
    precision.

    Args:
        temperature: softens both predictions. The released code takes 2 whatever it is given.
        epsilon: weight of the plan's entropy; the paper's lambda.
        iterations: rounds of row and column normalisation.
        group: samples are matched within groups of this many, in the order of the batch; None takes the whole batch
            (batch-wise, the method), 1 leaves nothing to match: sum_i ||p_i - q_i||_1 (sample-wise).

    Raises:
        UserError: the batch does not divide into groups.
    """
    group = group or len(student)
    if len(student) % group:
        raise UserError(f"a batch of {len(student)} does not divide into groups of {group}: change one of the two")
    p, q = F.softmax(student / temperature, -1), F.softmax(teacher / temperature, -1)
    p, q = (rearrange(x, "(n group) c -> n group c", group=group) for x in (p, q))
    return transport_cost(p, q, epsilon, iterations).sum()
