"""How well anomaly maps find faults: AUROC of pictures and of pixels, PRO, and how far faults stand out."""

import numpy as np
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

Array = np.ndarray
FALSE_POSITIVES = 0.3
"""Up to this share of pixels without a fault PRO is integrated (Bergmann et al. 2020)."""
STEPS = 200


def auroc(scores: Array, positive: Array) -> float:
    """Probability that a positive scores higher than a negative one, ties half: 0.5 by chance, nan without both."""
    if not np.isfinite(scores).all() or positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive.ravel(), scores.ravel()))


def pro(maps: Array, masks: Array) -> float:
    """Per-region overlap: how much of a region lies above a threshold, the mean over regions, over all thresholds.

    The area under that curve over the share of false pixels, up to FALSE_POSITIVES, divided by it: 1 is perfect, and
    a map of chance has FALSE_POSITIVES / 2.

    Args:
        maps: float [N, S, S].
        masks: bool [N, S, S]; connected pixels, corners too, are a region.
    """
    normal = np.sort(maps[~masks])
    regions = []
    for one, mask in zip(maps, masks, strict=True):
        named, count = label(mask, np.ones((3, 3)))
        regions += [np.sort(one[named == k]) for k in range(1, count + 1)]
    if not regions or not len(normal) or not np.isfinite(maps).all():
        return float("nan")
    rates = np.linspace(0, FALSE_POSITIVES, STEPS + 1)
    thresholds = normal[np.minimum(len(normal) - 1, np.floor((1 - rates) * len(normal)).astype(int))]
    above = [1 - np.searchsorted(values, thresholds, "right") / len(values) for values in regions]
    return float(np.trapezoid(np.mean(above, 0), rates) / FALSE_POSITIVES)


def contrast(maps: Array, masks: Array, defective: Array) -> float:
    """The map's mean on faults over its mean on pictures without one: 1 where faults look like the rest."""
    return float(maps[masks].mean() / maps[~defective].mean())
