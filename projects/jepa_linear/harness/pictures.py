"""Pictures for the report: trajectories and orders of the theory, networks over the theory, features with noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.charts import Line, line_chart, side_by_side
from common.visual import Themed
from projects.jepa_linear.order import inversions
from projects.jepa_linear.theory import Array, Objective, fixed_point, learning_time, trajectory

if TYPE_CHECKING:
    from projects.jepa_linear.data import Features
    from projects.jepa_linear.evaluate import Trajectory

SHOWN = 5  # features of a chart
POINTS = 120  # of a line
STUDIES = {
    "equal rho": ((1.0, 0.85, 0.7), (0.8, 0.8, 0.8)),
    "equal lambda": ((0.8, 0.8, 0.8), (1.0, 0.85, 0.7)),
    "lambda against rho": ((1.0, 0.85, 0.7), (0.7, 0.85, 1.0)),
}
"""Lambda and rho of three features: what the paper's second figure shows."""
STUDY_DEPTH, STUDY_EPS = 5, 0.02
DECADES = (1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12)
PANEL = (330, 300)
Pictures = dict[str, tuple[Themed, str]]


def of_theory(objective: Objective, features: "Features", depths: Sequence[int], eps: float) -> Pictures:
    """Three features in three studies; times over rho; inversions."""
    name = objective.upper()
    panels = [_study(objective, np.array(lam), np.array(rho), title) for title, (lam, rho) in STUDIES.items()]
    rho = np.linspace(features.rho.min(), features.rho.max(), 40)
    times = [learning_time(objective, np.ones_like(rho), rho, depth, eps) for depth in depths]
    over_rho = [Line(rho, t / t[-1], f"L = {depth}") for depth, t in zip(depths, times, strict=True)]
    shares = {
        e: [
            inversions(learning_time(objective, features.lam, features.rho, d, e), features.lam, features.rho)
            for d in depths
        ]
        for e in DECADES
        if not np.isnan(learning_time(objective, features.lam, features.rho, max(depths), e)).any()
    }
    return {
        "three features, integrated": (
            side_by_side(*panels),
            f"Amplitudes of three features, each by its fixed point, at depth {STUDY_DEPTH} from {STUDY_EPS:g}: "
            "rho is equal, lambda is equal, and the larger lambda has the smaller rho",
        ),
        "time to learn, and inversions": (
            side_by_side(
                line_chart(over_rho, "rho", "relative time", f"{name}, equal lambda"),
                line_chart(
                    [Line(depths, share, f"eps {e:g}", dots=True) for e, share in shares.items()],
                    "depth L", "larger rho first", f"{name}, pairs at odds", limits=(-0.03, 1.03),
                ),
            ),
            f"Left: at equal lambda, times by that of the largest rho (eps {eps:g}). Right: share of the "
            "pairs at odds in which the feature with the larger rho comes first, by depth and eps",
        ),
    }  # fmt: skip


def _study(objective: Objective, lam: Array, rho: Array, title: str) -> Themed:
    half = learning_time(objective, lam, rho, STUDY_DEPTH, STUDY_EPS)
    times = np.linspace(0, 1.6 * half.max(), POINTS)
    found = trajectory(objective, lam, rho, STUDY_DEPTH, STUDY_EPS, times)
    found /= fixed_point(objective, rho, STUDY_DEPTH)
    lines = [Line(times, found[:, k], f"λ {lam[k]:g}, ρ {rho[k]:g}") for k in range(len(lam))]
    return line_chart(lines, "time", "amplitude", title, limits=(0.0, 1.05), size=PANEL)


def of_runs(runs: Sequence["Trajectory"]) -> Pictures:
    """Every training as the theory has it, or what became of clean and of noisy features."""
    pictures: Pictures = {}
    for run in runs:
        where = f"depth {run.depth}"
        if run.theory:
            caption = (
                f"Networks of {where} over the theory: amplitudes of {min(SHOWN, len(run.limits))} features, each by "
                "its fixed point; dots are the network, lines the scalar equations"
            )
            pictures[f"network over theory, {where}"] = (_over_theory(run), caption)
        else:
            caption = f"Amplitudes of the features at {where}, each by its largest"
            pictures[f"features, {where}"] = (_features(run), caption)
    return pictures


def _over_theory(run: "Trajectory") -> Themed:
    order = np.argsort(run.features.rho)
    shown = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    lam, rho, limits = run.features.lam[shown], run.features.rho[shown], run.limits[shown]
    end = min(run.time[-1], 2.5 * np.nanmax(learning_time(run.objective, lam, rho, run.depth, run.eps)))
    times = np.linspace(0, end, POINTS)
    said = trajectory(run.objective, lam, rho, run.depth, run.eps, times) / limits
    inside = np.flatnonzero(run.time <= end)
    dots = inside[np.unique(np.linspace(0, len(inside) - 1, 14).round().astype(int))]
    lines = []
    for k, feature in enumerate(shown):
        name = f"λ {lam[k]:.2f}, ρ {rho[k]:.2f}"
        lines.append(Line(times, said[:, k], name))
        lines += [Line([run.time[d]], [run.amplitude[d, feature] / limits[k]], name, dots=True) for d in dots]
    return line_chart(lines, "time", "amplitude", f"{run.objective.upper()}, L = {run.depth}", limits=(0.0, 1.1))


def _features(run: "Trajectory") -> Themed:
    part = run.amplitude / run.amplitude.max(0)
    if run.features.noisy.any():
        names = ["noisy" if noisy else "clean" for noisy in run.features.noisy]
        picked = np.arange(len(names))
    else:
        names = [f"ρ {rho:.2f}" for rho in run.features.rho]
        picked = np.argsort(run.features.rho)[:: max(1, len(names) // SHOWN)]
    lines = [Line(run.time, part[:, k], names[k], faint=bool(run.features.noisy.any())) for k in picked]
    return line_chart(lines, "time", "amplitude", f"{run.objective.upper()}, L = {run.depth}", limits=(0.0, 1.05))
