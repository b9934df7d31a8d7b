"""Losses that look across the batch, over several processes: its rows, with gradients, and its counts."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in rank order: [B, ...] -> [world * B, ...]; x itself in a single process.

    Gradients flow back to the process a row came from. With the mean that data parallel training takes over processes,
    a loss that every process computes over the whole gathered batch has the gradient of one process with that batch.
    Every process must bring the same number of rows.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    if not x.requires_grad:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)
    return torch.cat(all_gather(x.contiguous()))


def first_row(rows: int) -> int:
    """Where this process's `rows` begin in what `gather` returns: targets of a contrastive loss start there."""
    return dist.get_rank() * rows if dist.is_available() and dist.is_initialized() else 0


def mean_over_processes(count: Tensor) -> Tensor:
    """A process's number of tokens -> the mean of all processes' numbers; itself in a single process.

    A loss that is a sum over tokens, divided by this, has with the mean of the processes' gradients that of one process
    with all tokens: processes with more of them count more.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return count
    total = count.clone().float()
    dist.all_reduce(total)
    return total / dist.get_world_size()
