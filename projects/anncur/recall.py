"""How many of the truly best items a search finds, given exact scores to compare with."""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def top(scores: Array, k: int) -> Array:
    """Indices of the k largest scores, best first: [..., N] -> [..., k]. Of equal scores the earlier item comes first."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def found(exact: Array, candidates: Array, k: int) -> Array:
    """Share of the exact top k that re-ranking `candidates` by their exact scores yields.

    Top-k-Recall of the paper: |exact top k and top k of the candidates| / k.

    Args:
        exact: scores of all items, [Q, N].
        candidates: retrieved items, [Q, n].

    Returns:
        [Q], in 0..1; at most n / k.
    """
    reranked = np.take_along_axis(candidates, top(np.take_along_axis(exact, candidates, -1), k), -1)
    hits = top(exact, k)[:, :, None] == reranked[:, None, :]
    return hits.any(-1).mean(-1)


def rerank_recall(exact: Array, approx: Array, retrieved: int, ks: Sequence[int]) -> tuple[list[float], list[float]]:
    """Top-k-Recall@retrieved for each k: retrieve by `approx`, re-rank by `exact`, both [Q, N].

    Returns:
        Mean and population standard deviation over the queries, one of each per k.
    """
    candidates = top(approx, retrieved)
    shares = [found(exact, candidates, k) for k in ks]
    return [float(share.mean()) for share in shares], [float(share.std()) for share in shares]
