"""Divergences between a teacher's and a student's class probabilities, both softened by a temperature T.

    soft = soft_cross_entropy(student, teacher.detach(), T)
    loss = (1 - alpha) * F.cross_entropy(student, labels) + alpha * T**2 * soft

All take logits [..., C] over the same C classes and average over the leading dimensions. None multiplies by T^2, which
keeps the gradient's size when T changes (Hinton et al. 2015, section 2): papers differ in that, so it is the caller's.
Gradients flow into both arguments: detach the teacher. Logarithms are taken of softmax outputs in one step, so that
saturated logits give finite losses and gradients.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """-sum_k q_k log p_k: the soft-label loss; `forward_kl` plus the teacher's entropy, with the same gradient."""
    return -(F.softmax(teacher / temperature, -1) * F.log_softmax(student / temperature, -1)).sum(-1).mean()


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(q || p) = sum_k q_k log(q_k / p_k), q the teacher's: punishes what the student leaves out."""
    log_p, log_q = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p || q) = sum_k p_k log(p_k / q_k), q the teacher's: punishes what the student adds."""
    return forward_kl(teacher, student, temperature)


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(q || m) / 2 + KL(p || m) / 2 with m = (p + q) / 2; from 0 to log 2, symmetric."""
    log_p, log_q = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_q.exp() * (log_q - log_m) + log_p.exp() * (log_p - log_m)).sum(-1).mean() / 2


def total_variation(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """sum_k |p_k - q_k| / 2; from 0 to 1, symmetric. Its gradient vanishes where p saturates, however wrong p is."""
    p, q = F.softmax(student / temperature, -1), F.softmax(teacher / temperature, -1)
    return (p - q).abs().sum(-1).mean() / 2


def annealed_temperature(start: float, epoch: int, epochs: int) -> float:
    """From `start` in the first epoch (0) in equal steps down to 1 in the last (epochs - 1); 1 if there is only one."""
    return start + (1 - start) * epoch / (epochs - 1) if epochs > 1 else 1.0
