"""Zero-shot classification and retrieval with one or several captions of a picture, from embeddings."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.evaluators.retrieval import ROWS

DEPTHS = (1, 5, 10)


def class_vectors(embedded: Tensor, classes: int) -> Tensor:
    """Of each class the mean over its prompts of unit rows, again of length 1: [C P, D] -> [C, D]."""
    return F.normalize(embedded.view(classes, -1, embedded.shape[-1]).mean(1), dim=-1)


def classified(images: Tensor, vectors: Tensor, labels: Tensor) -> Tensor:
    """Whether each picture [N, D] is nearest to its own class's vector [C, D], bool [N]. No tie or NaN is a hit."""
    hits = []
    for start in range(0, len(images), ROWS):
        scores, own = images[start : start + ROWS] @ vectors.T, labels[start : start + ROWS, None]
        hits.append((scores >= scores.gather(1, own)).sum(1) == 1)
    return torch.cat(hits)


def ranks(images: Tensor, texts: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Where the right one stands, from 1: of each picture's texts the best one among all texts, and of each text its
    picture among all pictures. What is not worse counts as better, the same score and NaN, but a picture's other texts.

    Args:
        images: [N, D].
        texts: [M, D].
        owners: the picture of each text, int64 [M]; every picture has one at least.

    Returns:
        Ranks [N] and [M].
    """
    to_images = []
    for start in range(0, len(texts), ROWS):
        scores, own = texts[start : start + ROWS] @ images.T, owners[start : start + ROWS, None]
        to_images.append((~(scores < scores.gather(1, own))).sum(1))
    to_texts = []
    for start in range(0, len(images), ROWS):
        scores = images[start : start + ROWS] @ texts.T
        mine = owners[None] == torch.arange(start, start + len(scores), device=owners.device)[:, None]
        best = scores.masked_fill(~mine, -torch.inf).amax(1, keepdim=True)
        to_texts.append(1 + (~(scores < best) & ~mine).sum(1))
    return torch.cat(to_texts), torch.cat(to_images)


def recalls(found: Tensor) -> dict[str, float]:
    """Of ranks: the shares that are at most 1, 5 and 10, the mean and the median, rounded down."""
    shares = {f"r{k}": (found <= k).float().mean().item() for k in DEPTHS}
    return shares | {
        "mean_rank": found.float().mean().item(),
        "median_rank": found.float().quantile(0.5).floor().item(),
    }
