"""Contrastive losses over a batch: each sample's positive among everybody's."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.training.distributed import first_row, gather


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """-log softmax of a query's cosine to its own key among all keys: InfoNCE with in-batch negatives.

    L = -1/B sum_i log( exp(cos(q_i, k_i) / T) / sum_j exp(cos(q_i, k_j) / T) ), the keys j of all processes. It is not
    symmetric: for CLIP's loss take the mean with the arguments exchanged.

    Args:
        queries: [B, D].
        keys: [B, D]; key i belongs to query i.
        temperature: T.

    Example:
        loss = info_nce(encoder(sentences), encoder(sentences), 0.05)  # SimCSE: two dropout masks
    """
    similar = F.normalize(queries, dim=-1) @ F.normalize(gather(keys), dim=-1).T / temperature
    own = first_row(len(queries)) + torch.arange(len(queries), device=queries.device)
    return F.cross_entropy(similar, own)


def clip_loss(a: Tensor, b: Tensor, scale: float | Tensor) -> Tensor:
    """CLIP's symmetric loss: L = (CE(S, diag) + CE(S^T, diag)) / 2 with S = scale * A B^T over all processes' rows.

    Args:
        a: [B, D], normalised by whoever calls: nothing is normalised here.
        b: [B, D]; row i belongs to row i of `a`.
        scale: a multiplier (1 / temperature), which may be learned.

    Example:
        loss = clip_loss(F.normalize(image, dim=-1), F.normalize(text, dim=-1), log_scale.exp())
    """
    own = first_row(len(a)) + torch.arange(len(a), device=a.device)
    all_a, all_b = gather(a), gather(b)
    return (F.cross_entropy(scale * a @ all_b.T, own) + F.cross_entropy(scale * b @ all_a.T, own)) / 2
