"""Pairs of an input and a target whose covariances share a basis: features, each with its lambda and its rho.

A source says which features there are, and may draw samples of them. Without samples the pairs are a handful of points
that have exactly the covariances asked for: the loss over them is the expectation.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor
from torch.utils.data import DataLoader

from common.data.stream import stream_loader
from common.errors import UserError

Array = np.ndarray
Pair = tuple[Tensor, Tensor]
SPACING = 10  # moments from one pair of a process to the next
STEPS = 1 << 20  # of an epoch: more than any training takes


@dataclass(frozen=True)
class Features:
    """What the theory knows of features, [F] each.

    Attributes:
        lam: covariance of a feature in the input with itself in the target.
        rho: lam by the variance of the input: the regression coefficient.
        latent: variance of what input and target share, the rest of the input's is noise; NaN where nothing is said.
        noisy: 1 for features that are meant to be noisy, 0 for the others.
    """

    lam: Array
    rho: Array
    latent: Array
    noisy: Array

    @property
    def variance(self) -> Array:
        """Of the input, sigma^2."""
        return self.lam / self.rho


@dataclass(frozen=True)
class Group:
    """So many equal features: a latent variable seen through noise.

    Attributes:
        count: of the features.
        latent: variance of the latent variable.
        noise: variance of the noise in the input, and of that in the target.
        persistence: correlation of the latent variable from one moment to the next, where there is time.
    """

    count: int
    latent: float
    noise: float
    persistence: float = 1.0

    def __post_init__(self) -> None:
        for name, value, sound, wanted in (
            ("count", self.count, self.count >= 1, "at least 1"),
            ("latent", self.latent, self.latent > 0, "above 0"),
            ("noise", self.noise, self.noise >= 0, "0 or more"),
            ("persistence", self.persistence, 0 < self.persistence <= 1, "above 0 and at most 1"),
        ):
            if not sound:
                raise UserError(f"data.source: {name} {value:g} of a group of features; it has to be {wanted}")


class Drawn:
    """Features with lambda and rho from two ranges, the same ones whatever the run's seed is.

    Args:
        count: so many features.
        lam: lowest and highest lambda.
        rho: lowest and highest rho.
    """

    def __init__(self, count: int, lam: tuple[float, float], rho: tuple[float, float]):
        if count < 1:
            raise UserError(f"data.source: count {count}; it has to be at least 1")
        for name, (low, high) in (("lam", lam), ("rho", rho)):
            if not 0 < low <= high:
                raise UserError(f"data.source: {name} from {low:g} to {high:g}; it has to be above 0, and ascending")
        rng = np.random.default_rng(0)
        self.lam, self.rho = rng.uniform(*lam, count), rng.uniform(*rho, count)

    def features(self) -> Features:
        return Features(self.lam, self.rho, np.full_like(self.lam, np.nan), np.zeros_like(self.lam))


class Static:
    """Two noisy views of one latent vector: x = z + n, y = z + n'.

    Args:
        clean, noisy: the two groups of features.
    """

    in_time = False

    def __init__(self, clean: Group, noisy: Group):
        self.groups = (clean, noisy)
        if any((group.persistence < 1) != self.in_time for group in self.groups):
            said = "give both groups of Temporal one below 1" if self.in_time else "Static has no time, leave it out"
            raise UserError(f"data.source: persistence from one moment to the next: {said}")

    def features(self) -> Features:
        latent, noise, persistence, group = self._columns()
        lam = persistence * latent
        return Features(lam, lam / (latent + noise), latent, group)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Inputs and targets [count, F], a column for each feature."""
        latent, noise, _, _ = self._columns()
        z = rng.normal(size=(count, len(latent))) * np.sqrt(latent)
        x, y = (z + rng.normal(size=z.shape) * np.sqrt(noise) for _ in range(2))
        return x, y

    def _columns(self) -> tuple[Array, Array, Array, Array]:
        """Variance of latent variable and noise, persistence, number of the group: [F] each."""
        rows = [[(g.latent, g.noise, g.persistence, k)] * g.count for k, g in enumerate(self.groups)]
        latent, noise, persistence, group = np.array(list(chain(*rows)), float).T
        return latent, noise, persistence, group


class Temporal(Static):
    """What is seen at a moment and at the next one: x = z_t + n_t, y = z_(t+1) + n_(t+1), where each latent variable
    is a stationary process, z_(t+1) = g z_t + sqrt(1 - g^2) times fresh noise of z's own variance.

    Pairs are taken from one long sequence, every tenth moment: neighbours say much the same.
    """

    in_time = True

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        latent, noise, persistence, _ = self._columns()
        fresh = rng.normal(size=(count * SPACING, len(latent))) * np.sqrt(latent)
        fresh[1:] *= np.sqrt(1 - persistence**2)
        z = np.stack([lfilter([1.0], [1.0, -g], fresh[:, k]) for k, g in enumerate(persistence)], 1)
        seen = z + rng.normal(size=z.shape) * np.sqrt(noise)
        return seen[::SPACING], seen[1::SPACING]


def exact_pairs(features: Features) -> tuple[Array, Array]:
    """2 F inputs and targets, [2 F, F] each, whose second moments are exactly the features'.

    Targets vary as much as inputs do, or more where what the input explains of them does already.
    """
    scale = np.sqrt(2 * len(features.lam))
    unexplained = np.maximum(features.variance - features.rho * features.lam, 0.0)
    x, rest = np.diag(np.sqrt(features.variance)) * scale, np.diag(np.sqrt(unexplained)) * scale
    return np.concatenate([x, 0 * x]), np.concatenate([x * features.rho, rest])


class Whole:
    """All pairs as every batch, for `stream_loader`."""

    def __init__(self, pairs: Pair):
        self.pairs = pairs

    def __len__(self) -> int:
        return STEPS

    def draw(self, index: int, rng: np.random.Generator) -> Pair:
        return self.pairs


class Pairs(L.LightningDataModule):
    """Pairs [B, F] for training, validation and test, in a basis that the seed turns.

    Args:
        source: the features.
        samples: so many to train on, and as many for each of the others; None for the population itself.
        seed: of the basis and of the samples.
    """

    def __init__(self, source: Drawn | Static, samples: int | None = None, seed: int = 0):
        super().__init__()
        if samples is not None and samples < 1:
            raise UserError(f"data.samples {samples}: it has to be at least 1, or null for the population itself")
        self.features, self.seed = source.features(), seed
        self.exact = samples is None
        size = len(self.features.lam)
        turned = np.linalg.qr(np.random.default_rng((seed, 0)).normal(size=(size, size)))[0]
        self.basis = torch.from_numpy(turned)
        """The features' directions, a column each."""
        if samples is None or isinstance(source, Drawn):
            if samples is not None:
                raise UserError("data.samples: Drawn has none, take Static or Temporal, or leave it out")
            self.parts = dict.fromkeys(("train", "val", "test"), self._turned(exact_pairs(self.features)))
        else:
            self.parts = {
                part: self._turned(source.sample(samples, np.random.default_rng((seed, number))))
                for number, part in enumerate(("train", "val", "test"), start=1)
            }

    def _turned(self, pairs: tuple[Array, Array]) -> Pair:
        x, y = (torch.from_numpy(one) @ self.basis.T for one in pairs)
        return x, y

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        return stream_loader(Whole(self.parts["train"]), 1, self.trainer, self.seed, collate=_only)


def _only(batches: list[Any]) -> Any:
    return batches[0]
