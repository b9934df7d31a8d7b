"""Measures over what a preference sweep gives: hypervolume, and how far figures follow preferences."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

Array = np.ndarray


def hypervolume(points: Array, reference: Array) -> float:
    """Volume that is dominated by points and lies above the reference; larger is better on every axis.

    The exact algorithm of While et al. (2012): a point adds its own box less what later points dominate of it.

    Args:
        points: [N, D]; a point that is not above the reference on every axis adds nothing.
        reference: [D].
    """
    sides = np.maximum(np.asarray(points, np.float64) - reference, 0.0)
    return _volume(_front(sides[(sides > 0).all(1)]))


def _volume(front: Array) -> float:
    """Of boxes from 0 to each point [N, D], none of which lies in another."""
    total = 0.0
    for number, point in enumerate(front):
        total += float(point.prod()) - _volume(_front(np.minimum(front[number + 1 :], point)))
    return total


def _front(points: Array) -> Array:
    """Points that no other dominates, each once; the largest in the first axis first."""
    points = np.unique(points, axis=0)[::-1]
    kept = [p for k, p in enumerate(points) if not (points[:k] >= p).all(1).any()]
    return np.array(kept).reshape(-1, points.shape[1])


def follows(preferences: Sequence[Sequence[float]], gains: Array) -> float:
    """Spearman's correlation of each task's preference with its figure, averaged over tasks.

    A figure that a sweep leaves as it is does not follow: 0. So does one setting alone.

    Args:
        preferences: [N, K].
        gains: figures with more being better, [N, K].
    """
    asked = np.asarray(preferences, np.float64).reshape(gains.shape)
    found = []
    for wanted, got in zip(asked.T, gains.T, strict=True):
        varies = len(got) > 1 and np.ptp(wanted) > 0 and np.ptp(got) > 0
        found.append(float(spearmanr(wanted, got).statistic) if varies else 0.0)
    return float(np.mean(found))
