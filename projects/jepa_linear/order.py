"""When features are learned, and which of two comes first: measures of arrays of features, [F]."""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

Array = np.ndarray


def first_reached(times: Array, values: Array, wanted: Array) -> Array:
    """When each of the series [T, F] first reaches its wanted value [F], between records; NaN where it never does."""
    found = np.full(len(wanted), np.nan)
    for k in range(len(wanted)):
        reached = values[:, k] >= wanted[k]
        if not reached.any():
            continue
        after = int(reached.argmax())
        if after == 0:
            found[k] = times[0]
            continue
        near = slice(max(0, after - 3), after + 3)
        curve = PchipInterpolator(times[near], values[near, k] - wanted[k])
        found[k] = brentq(curve, times[after - 1], times[after])
    return found


def conflicts(lam: Array, rho: Array) -> tuple[Array, Array]:
    """Pairs of features of which one has the larger rho, the other the larger lambda: indices of the ones and of the
    others, [P] each."""
    i, j = np.triu_indices(len(lam), 1)
    at_odds = (lam[i] - lam[j]) * (rho[i] - rho[j]) < 0
    i, j = i[at_odds], j[at_odds]
    return np.where(rho[i] > rho[j], i, j), np.where(rho[i] > rho[j], j, i)


def inversions(times: Array, lam: Array, rho: Array) -> float:
    """Share of the pairs at odds in which the feature with the larger rho is learned first; NaN without such pairs.

    A feature that is never learned (NaN) comes last; two of them count half, as does a tie.
    """
    large, small = conflicts(lam, rho)
    times = np.where(np.isnan(times), np.inf, times)
    ahead = (times[large] < times[small]) + 0.5 * (times[large] == times[small])
    return float(ahead.mean()) if len(ahead) else float("nan")


def agreement(times: Array, others: Array) -> float:
    """Share of all pairs of features that two lists of times put in the same order; NaN (never) comes last."""
    times, others = (np.where(np.isnan(t), np.inf, t) for t in (times, others))
    i, j = np.triu_indices(len(times), 1)
    return float(((times[i] < times[j]) == (others[i] < others[j])).mean())


def lead(times: Array, noisy: Array) -> float:
    """How far ahead clean features are of noisy ones: log of the ratio of their (geometric) mean times, positive where
    the clean come first."""
    logs = np.log(times)
    return float(logs[noisy == 1].mean() - logs[noisy == 0].mean())


def noise_made(part: Array, noisy: Array) -> float:
    """What noisy features have of their final amplitude when the clean ones have half of theirs, means of [T, F] parts
    that end at 1."""
    moment = int((part[:, noisy == 0].mean(1) >= 0.5).argmax())
    return float(part[moment, noisy == 1].mean())


def purity(amplitude: Array, variance: Array, latent: Array) -> float:
    """Share of the latent variables in the energy of a representation with these amplitudes [F]: E|Wz|^2 / E|Wx|^2."""
    return float((amplitude**2 * latent).sum() / (amplitude**2 * variance).sum())
