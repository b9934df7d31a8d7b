"""The dynamics of deep linear JEPA and MAE in closed form, feature by feature.

Where the covariances of input and target, Sigma_xx = diag(sigma^2) and Sigma_yx = diag(lambda), share their basis, and
all matrices start small, balanced and aligned, features do not see each other: the encoder W = W^L ... W^1 keeps
orthogonal columns, of length w each, and every matrix, the predictor too, has the same gain u = w^(1/L) for a feature.
With rho = lambda / sigma^2 the gradient flow, at unit rate in every matrix, is (the paper's Theorem 4.2)

    JEPA   u' = lambda u^(2L) (1 - u / rho)              ends at w = rho^L
    MAE    u' = lambda u^L (1 - u^(L+1) / rho)           ends at w = rho^(L/(L+1))

Times here are those of this flow. The paper leaves out a factor L in its equation of w, so its times are L times as
long. All functions take arrays of features, [F], or numbers.
"""

from typing import Literal, get_args

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import hyp2f1

Objective = Literal["jepa", "mae"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
Array = np.ndarray
HALF = 0.5
"""A feature counts as learned where its amplitude is this part of its fixed point (the paper's p)."""


def fixed_point(objective: Objective, rho: Array, depth: int) -> Array:
    """Amplitude w that a feature ends at."""
    return rho**depth if objective == "jepa" else rho ** (depth / (depth + 1))


def velocity(objective: Objective, gain: Array, lam: Array, rho: Array, depth: int) -> Array:
    """du/dt of the gain u of one matrix."""
    if objective == "jepa":
        return lam * gain ** (2 * depth) * (1 - gain / rho)
    return lam * gain**depth * (1 - gain ** (depth + 1) / rho)


def elapsed(objective: Objective, gain: Array, lam: Array, rho: Array, depth: int) -> Array:
    """Time of the flow at which the gain is reached, up to a constant of each feature: the integral of du / u'.

    For JEPA this is Theorem 4.4, by partial fractions; for MAE the integral has a hypergeometric function. Below the
    fixed point alone.
    """
    if objective == "jepa":
        orders = np.arange(1, 2 * depth)
        gain, rho = np.broadcast_arrays(np.asarray(gain, float), np.asarray(rho, float))
        powers = gain[..., None] ** -orders / (orders * rho[..., None] ** (2 * depth - 1 - orders))
        return (np.log(gain / (1 - gain / rho)) / rho ** (2 * depth - 1) - powers.sum(-1)) / lam
    late = gain**2 / (2 * rho) * hyp2f1(1, 2 / (depth + 1), 1 + 2 / (depth + 1), gain ** (depth + 1) / rho)
    early = np.log(gain) if depth == 1 else gain ** (1.0 - depth) / (1 - depth)
    return (early + late) / lam


def learning_time(objective: Objective, lam: Array, rho: Array, depth: int, eps: float, part: float = HALF) -> Array:
    """Time of the flow until a feature's amplitude, eps at the start, is this part of its fixed point.

    NaN where it is not below that at the start; JEPA's features with rho < eps^(1/L) shrink.
    """
    start = np.full_like(np.asarray(rho, float), eps ** (1 / depth))
    end = (part * fixed_point(objective, np.asarray(rho, float), depth)) ** (1 / depth)
    grows = start < end
    start = np.where(grows, start, end)
    time = elapsed(objective, end, lam, rho, depth) - elapsed(objective, start, lam, rho, depth)
    return np.where(grows, time, np.nan)


def critical_time(objective: Objective, lam: Array, rho: Array, depth: int, eps: float) -> Array:
    """The leading terms of the learning time for small eps (Theorem 4.5, in the flow's time).

    What is left out grows as log eps for JEPA and stays bounded for MAE. JEPA's last term, the largest, has no rho in
    it; the others have.
    """
    if objective == "jepa":
        orders = np.arange(1, 2 * depth)
        rho = np.asarray(rho, float)
        return (1 / (orders * rho[..., None] ** (2 * depth - orders - 1) * eps ** (orders / depth))).sum(-1) / lam
    if depth == 1:
        return np.log(1 / eps) / (lam + 0 * rho)
    return eps ** (1 / depth - 1) / (depth - 1) / (lam + 0 * rho)


def integrated_time(objective: Objective, lam: Array, rho: Array, depth: int, eps: float) -> Array:
    """`learning_time` by integrating the equation of every feature to its end, [F]; for features that grow."""
    ends = (HALF * fixed_point(objective, rho, depth)) ** (1 / depth)
    found = np.empty(len(lam))
    for k in range(len(lam)):

        def reached(_: float, u: Array, k: int = k) -> float:
            return float(u[0] - ends[k])

        reached.terminal = True
        bound = 2 * learning_time(objective, lam[k], rho[k], depth, eps)
        solved = solve_ivp(
            lambda _, u, k=k: velocity(objective, u, lam[k], rho[k], depth),
            (0, bound), [eps ** (1 / depth)], "LSODA", events=reached, rtol=1e-9, atol=1e-9 * eps,
        )  # fmt: skip
        found[k] = solved.t_events[0][0]
    return found


def trajectory(objective: Objective, lam: Array, rho: Array, depth: int, eps: float, times: Array) -> Array:
    """Amplitudes w at the times [T], increasing, from 0 on: [T, F], by integrating the equation of every feature."""
    found = np.empty((len(times), len(lam)))
    for k in range(len(lam)):
        solved = solve_ivp(
            lambda _, u, k=k: velocity(objective, u, lam[k], rho[k], depth),
            (0, times[-1]), [eps ** (1 / depth)], "LSODA", times, rtol=1e-9, atol=1e-12,
        )  # fmt: skip
        found[:, k] = solved.y[0] ** depth
    return found
