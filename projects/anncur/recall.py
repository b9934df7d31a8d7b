"""How many of the truly best items a search finds, given exact scores to compare with."""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def top(scores: Array, k: int) -> Array:
    """Indices of the k largest scores, best first: [..., N] -> [..., k]. Of equal ones the earlier item comes first."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def found(exact: Array, candidates: Array, ks: Sequence[int]) -> Array:
    """Share of the exact top k that re-ranking `candidates` by their exact scores yields, for each k.

    Top-k-Recall of the paper: |exact top k and top k of the candidates| / k.

    Args:
        exact: scores of all items, [Q, N].
        candidates: retrieved items, each once, [Q, n].

    Returns:
        [len(ks), Q], in 0..1; at most n / k.
    """
    best = top(exact, max(ks))
    reranked = np.take_along_axis(candidates, top(np.take_along_axis(exact, candidates, -1), max(ks)), -1)
    hits = best[:, :, None] == reranked[:, None, :]
    return np.stack([hits[:, :k, :k].any(-1).mean(-1) for k in ks])


def rerank_recall(exact: Array, approx: Array, retrieved: int, ks: Sequence[int]) -> tuple[list[float], list[float]]:
    """Top-k-Recall@retrieved for each k: retrieve by `approx`, re-rank by `exact`, both [Q, N].

    Returns:
        Mean and population standard deviation over the queries, one of each per k.
    """
    shares = found(exact, top(approx, retrieved), ks)
    return shares.mean(1).tolist(), shares.std(1).tolist()


def effective_rank(scores: Array, explained: float = 0.99) -> int:
    """Smallest rank at which the best approximation of [M, N] explains this share of the variance within its rows.

    What is the same for all items of a row orders nothing, so the rows' means do not count as variance.
    """
    scores = np.asarray(scores, np.float64)
    left = np.append(np.cumsum(np.linalg.svd(scores, compute_uv=False)[::-1] ** 2)[::-1], 0.0)  # [min(M, N) + 1]
    variance = np.square(scores - scores.mean(1, keepdims=True)).sum()
    return int(np.argmax(left <= (1 - explained) * variance + 1e-12 * left[0]))
