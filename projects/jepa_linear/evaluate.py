"""Hold trained networks against the theory: amplitudes over time, times to learn, the order of features, noise.

    python -m projects.jepa_linear.evaluate test --config projects/jepa_linear/configs/mini/evaluate.yaml \\
        --data.runs.depth3 <run folder of train>/trajectory.safetensors
"""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
import numpy as np
from safetensors import SafetensorError, safe_open
from torch.utils.data import DataLoader

from common.cli import main
from common.errors import UserError
from common.paths import expand
from common.training.runs import save_picture
from projects.jepa_linear.data import Features
from projects.jepa_linear.harness import pictures
from projects.jepa_linear.order import agreement, first_reached, inversions, lead, noise_made, purity
from projects.jepa_linear.theory import HALF, OBJECTIVES, Array, Objective, fixed_point, learning_time, trajectory

LEARNED = 0.8
"""Progress from which on a feature counts as learned at the end."""
WORST = {
    "deviation": np.max, "time_error": np.max, "limit_error": np.max, "unbalanced": np.max, "mixed": np.max,
    "order": np.min, "learned": np.min, "val_learned": np.min, "growth": np.min, "lead": np.min,
    "noise_made": np.max, "purity": np.min,
}  # fmt: skip
"""Measures, and how several depths become one figure: the worst of them, NaN where one of them is (NumPy's)."""


@dataclass(frozen=True)
class Trajectory:
    """What `train` has seen: times [T], and at each of them amplitude and progress of the features, [T, F].

    Attributes:
        until: when the training was to end.
        theory: whether the theory speaks of this training: linear, aligned, of the population, by the flow.
    """

    objective: Objective
    depth: int
    eps: float
    until: float
    theory: bool
    features: Features
    time: Array
    amplitude: Array
    progress: Array
    val_progress: Array
    unbalanced: Array
    mixed: Array

    @property
    def limits(self) -> Array:
        """The features' fixed points."""
        return fixed_point(self.objective, self.features.rho, self.depth)


def read(path: str) -> Trajectory:
    """UserError where the file is not one that `train` has written."""
    file = expand(path, "data.runs")
    try:
        with safe_open(file, "np") as opened:
            said = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        features = Features(*(arrays.pop(name) for name in ("lam", "rho", "latent", "noisy")))
        objective = next(one for one in OBJECTIVES if one == said["objective"])
        numbers = (int(said["depth"]), float(said["eps"]), float(said["until"]))
        return Trajectory(objective, *numbers, said["theory"] == "True", features, **arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise UserError(
            f"{file} is no trajectory ({type(error).__name__}: {error}); give the trajectory.safetensors that a run "
            "of projects.jepa_linear.train has left"
        ) from error


def measured(run: Trajectory) -> dict[str, float]:
    """All measures of one training; those of the theory and those of noise where they apply.

    Which features come first is said where all of them have grown and are learned: half of an amplitude that rises and
    falls again, or rises still, is no time of a feature's.
    """
    features = run.features
    found = {
        "learned": float((run.progress[-1] >= LEARNED).mean()),
        "val_learned": float((run.val_progress >= LEARNED).mean()),
        "growth": float((run.amplitude[-1] ** 2).sum() / (run.amplitude[0] ** 2).sum()),
        "unbalanced": float(run.unbalanced.max()),
        "mixed": float(run.mixed.max()),
    }
    if run.theory:
        said = trajectory(run.objective, features.lam, features.rho, run.depth, run.eps, run.time)
        exact = learning_time(run.objective, features.lam, features.rho, run.depth, run.eps)
        times = first_reached(run.time, run.amplitude, HALF * run.limits)
        found["deviation"] = float(np.abs((run.amplitude - said) / run.limits).max())
        found["time_error"] = float(np.abs(times / exact - 1).max())
        found["limit_error"] = float(np.abs(run.amplitude[-1] / run.limits - 1).max())
        found["order"] = agreement(times, exact)
        found[f"flips_{run.depth}"] = inversions(times, features.lam, features.rho)
    if features.noisy.any():
        found["purity"] = purity(run.amplitude[-1], features.variance, features.latent)
        part = run.amplitude / run.amplitude[-1]
        if found["learned"] == 1 and part[0].max() < HALF:
            times = first_reached(run.time, part, np.full(part.shape[1], HALF))
            found["lead"] = lead(times, features.noisy)
            found["noise_made"] = noise_made(part, features.noisy)
    return found


class Runs(L.LightningDataModule):
    """Trainings of one arm, at all of its depths.

    Args:
        runs: a trajectory file for each, under any name.
    """

    def __init__(self, runs: dict[str, str]):
        super().__init__()
        if not runs:
            raise UserError("data.runs names no trajectory: give one, --data.runs.depth3 <file>")
        self.runs = [read(path) for path in runs.values()]

    def test_dataloader(self) -> DataLoader:
        return DataLoader([0])  # one step: the runs are no tensors


class Evaluation(L.LightningModule):
    """Every measure of an arm's trainings; of several depths the worst figure stands."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        runs: list[Trajectory] = self.trainer.datamodule.runs
        rows = [measured(run) for run in runs]
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row[name] for row in rows if name in row]
            self.log(f"test/{name}", float(WORST[name](values)) if name in WORST else values[0], batch_size=1)
        for key, (chart, caption) in pictures.of_runs(runs).items():
            save_picture(self.run_dir, key, chart, caption)


if __name__ == "__main__":
    main(Evaluation, Runs)
