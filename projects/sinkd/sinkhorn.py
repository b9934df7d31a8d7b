"""The Sinkhorn distance between a batch of student predictions and a batch of teacher predictions (section 3).

    loss = sinkhorn_loss(student_logits, teacher_logits.detach())      # [B, C], [B, C] -> scalar

Row i of the cost belongs to student sample i, column j to teacher sample j. Leading dimensions are batches that know
nothing of each other.

Twenty rounds, the paper's, need not be enough for a transport plan: with few classes, or in a large batch, the rows of
the plan then miss their sums by a tenth, and L_SD may be less than the least cost of any transport. That is the loss as
published; `tolerance` goes on until the rows are as near as that.
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


def sinkhorn_plan(
    cost: Tensor, epsilon: float, iterations: int, tolerance: float | None = None, weights: Tensor | None = None
) -> Tensor:
    """The entropic transport plan of a cost between 0 and 2, by Sinkhorn's alternating normalisation.

    A round divides exp(-cost / epsilon) by its row sums, then by its column sums. The divisors alone are kept, one
    vector for the rows and one for the columns. Small `epsilon` would underflow; there the rounds run on logarithms.

    Args:
        cost: [..., B, B].
        iterations: rounds.
        tolerance: stop as soon as no row's sum is farther from what it should be; `iterations` is the most there are.
        weights: [..., B], not negative, what a sample's row and column should sum to; 0 leaves it out. None is 1 each.

    Returns:
        The plan, [..., B, B]: columns sum to exactly their weights, rows nearly.
    """
    if LARGEST_COST / epsilon > UNDERFLOW:
        return _log_plan(-cost / epsilon, iterations, tolerance, weights)
    return normalise(torch.exp(-cost / epsilon), iterations, tolerance, weights)


def normalise(kernel: Tensor, iterations: int, tolerance: float | None = None, weights: Tensor | None = None) -> Tensor:
    """`sinkhorn_plan` of a positive kernel [..., B, B]."""
    target = torch.ones_like(kernel[..., :1]) if weights is None else weights[..., None]
    rows = columns = target  # the kernel's factors, [..., B, 1] each
    with torch.autocast(kernel.device.type, enabled=False):  # which would take these products in half precision
        for _ in range(iterations):
            rows = target / (kernel @ columns)
            columns = target / (kernel.mT @ rows)
            if tolerance is not None and _near(rows * (kernel @ columns), target, tolerance):
                break
    return rows * kernel * columns.mT


def _log_plan(log_kernel: Tensor, iterations: int, tolerance: float | None, weights: Tensor | None) -> Tensor:
    """`normalise` on logarithms: log kernel [..., B, B] -> plan [..., B, B]."""
    target = torch.zeros_like(log_kernel[..., :1]) if weights is None else weights[..., None].log()
    rows = columns = target
    for _ in range(iterations):
        rows = target - (log_kernel + columns.mT).logsumexp(-1, keepdim=True)
        columns = target - (log_kernel.mT + rows.mT).logsumexp(-1, keepdim=True)
        if tolerance is not None:
            reached = rows + (log_kernel + columns.mT).logsumexp(-1, keepdim=True)
            if _near(reached.exp(), target.exp(), tolerance):
                break
    return (rows + log_kernel + columns.mT).exp()


def _near(reached: Tensor, target: Tensor, tolerance: float) -> bool:
    return bool((reached.detach() - target).abs().max() <= tolerance)


def transport_cost(
    p: Tensor,
    q: Tensor,
    epsilon: float = 0.1,
    iterations: int = 20,
    tolerance: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """sum_ij plan_ij D_ij between two sets of probability vectors, [..., B, C] each -> [...].

    The gradient flows through the cost and through every iteration. Where p_i = q_j the L1 norm's is taken as 0.
    """
    cost = pairwise_l1(p, q)
    return (sinkhorn_plan(cost, epsilon, iterations, tolerance, weights) * cost).sum((-2, -1))


def sinkhorn_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    epsilon: float = 0.1,
    iterations: int = 20,
    group: int | None = None,
    tolerance: float | None = None,
    weights: Tensor | None = None,
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
        tolerance: end the rounds once the plan's row sums are this near to `weights`; None takes all `iterations`.
        weights: [B], what each sample counts, 0 for one that is masked out (a padded token); None counts each as 1.

    Raises:
        UserError: student and teacher differ in shape, the batch does not divide into groups, or weights do not fit.
    """
    if student.ndim != 2 or student.shape != teacher.shape or not len(student):
        raise UserError(
            f"L_SD compares two batches of the same samples and classes, [B, C] each, not student logits "
            f"{list(student.shape)} with teacher logits {list(teacher.shape)}"
        )
    group = group or len(student)
    if len(student) % group:
        raise UserError(f"a batch of {len(student)} does not divide into groups of {group}: change one of the two")
    if weights is not None:
        weights = _checked(weights, len(student), group).to(student)
    p, q = F.softmax(student / temperature, -1), F.softmax(teacher / temperature, -1)
    p, q = (rearrange(x, "(n group) c -> n group c", group=group) for x in (p, q))
    return transport_cost(p, q, epsilon, iterations, tolerance, weights).sum()


def _checked(weights: Tensor, batch: int, group: int) -> Tensor:
    """Weights [B] as [groups, group], where each group has some."""
    if weights.shape != (batch,):
        raise UserError(f"weights of shape {list(weights.shape)} for a batch of {batch}: give one for each sample")
    weights = rearrange(weights, "(n group) -> n group", group=group)
    if not bool(torch.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(-1) > 0).all()):
        raise UserError("weights have to be finite, not negative, and not all 0 in a batch (or group)")
    return weights
