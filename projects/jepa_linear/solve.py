"""Integrate the equation of every feature, hold the times against the closed forms, and see which feature comes first.

    python -m projects.jepa_linear.solve test --config projects/jepa_linear/configs/mini/theory.yaml \\
        --model.objective jepa

No network: this is what the paper's theorems say, over many features and all depths at once.
"""

from typing import Any

import lightning.pytorch as L
import numpy as np
from scipy.stats import spearmanr
from torch.utils.data import DataLoader

from common.cli import main
from common.errors import UserError
from common.training.runs import save_picture
from projects.jepa_linear.data import Drawn, Features
from projects.jepa_linear.harness import pictures
from projects.jepa_linear.order import inversions
from projects.jepa_linear.theory import Array, Objective, critical_time, integrated_time, learning_time

SMALL_EPS = 1e-12
"""A start at which lambda should decide at every depth."""
REMAINDERS = (1e-4, 1e-6)
"""Two eps, between which the times' remainders are compared; at depths where float64 leaves enough of their digits."""
DEEPEST_REMAINDER = 3


class Grid(L.LightningDataModule):
    """Many features, the same whatever the seed is.

    Args:
        features: lambda and rho of each.
    """

    def __init__(self, features: Drawn):
        super().__init__()
        self.features = features.features()

    def test_dataloader(self) -> DataLoader:
        return DataLoader([0])  # one step: the features are no tensors


class Solution(L.LightningModule):
    """Times to learn by integration and by the closed forms, and the order of features.

    Args:
        objective: "jepa" or "mae".
        depths: matrices of the encoder.
        eps: amplitude at the start.
    """

    def __init__(self, objective: Objective, depths: list[int], eps: float):
        super().__init__()
        if not depths or min(depths) < 1:
            raise UserError(f"model.depths {depths}: name at least one depth, each 1 or more")
        if not 0 < eps < 1:
            raise UserError(f"model.eps {eps}: it has to be between 0 and 1")
        self.objective, self.depths, self.eps = objective, depths, eps

    def test_step(self, batch: Any, batch_idx: int) -> None:
        features: Features = self.trainer.datamodule.features
        lam, rho = features.lam, features.rho
        found: dict[str, Any] = {}
        errors, slopes = [], []
        for depth in self.depths:
            exact = learning_time(self.objective, lam, rho, depth, self.eps)
            if np.isnan(exact).any():
                raise UserError(
                    f"model.eps {self.eps:g} at depth {depth} begins above features' fixed points: lower it"
                )
            times = integrated_time(self.objective, lam, rho, depth, self.eps)
            errors.append(np.abs(times / exact - 1).max())
            found[f"inversions_{depth}"] = inversions(times, lam, rho)
            small = learning_time(self.objective, lam, rho, depth, SMALL_EPS)
            found[f"small_inversions_{depth}"] = inversions(small, lam, rho)
            alike = integrated_time(self.objective, np.ones_like(lam), rho, depth, self.eps)
            found[f"spread_{depth}"] = np.ptp(alike) / alike.mean()
            found[f"rank_{depth}"] = spearmanr(alike, rho).statistic
            if depth <= DEEPEST_REMAINDER:
                slopes.append(self.slope(lam, rho, depth))
        for name in ("inversions", "small_inversions"):
            found[name] = max(found[f"{name}_{depth}"] for depth in self.depths)
        by_lambda = integrated_time(self.objective, lam, np.full_like(rho, rho.mean()), max(self.depths), self.eps)
        found["lambda_rank"] = spearmanr(by_lambda, lam).statistic
        found["closed_form_error"] = max(errors)
        if slopes:
            found["remainder"] = np.abs(np.stack(slopes) - (self.objective == "jepa")).max()
        self.log_dict({f"test/{name}": float(value) for name, value in found.items()}, batch_size=1)
        for key, (chart, caption) in pictures.of_theory(self.objective, features, self.depths, self.eps).items():
            save_picture(self.run_dir, key, chart, caption)

    def slope(self, lam: Array, rho: Array, depth: int) -> Array:
        """How fast what the leading terms leave out grows with log 1/eps, for each feature: as a part of
        1 / (lambda rho^(2L-1)), which JEPA's exact time has there. Theta(log eps) is 1, Theta(1) is 0."""
        rest = [
            learning_time(self.objective, lam, rho, depth, eps) - critical_time(self.objective, lam, rho, depth, eps)
            for eps in REMAINDERS
        ]
        pace = (rest[1] - rest[0]) / np.log(REMAINDERS[0] / REMAINDERS[1]) * depth
        return pace * lam * rho ** (2 * depth - 1)


if __name__ == "__main__":
    main(Solution, Grid)
