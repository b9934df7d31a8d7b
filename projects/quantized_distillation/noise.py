"""Stochastic rounding as noise: what it does to a neuron's output, held against theory (the paper's section 5).

python -m projects.quantized_distillation.noise test --config projects/quantized_distillation/configs/mini/noise.yaml
"""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from scipy.stats import kstest
from torch import Tensor
from torch.utils.data import DataLoader

from common.charts import Line, line_chart
from common.cli import main, one_seed
from common.errors import UserError
from common.training.runs import save_picture
from projects.quantized_distillation.quantize import scale, uniform_codes

CHUNK = 1000


class Layers(L.LightningDataModule):
    """A neuron of each width: weights from a normal distribution, inputs as a ReLU leaves them, and 0.1 more.

    Args:
        widths: numbers of weights n, at least 3: the least and the largest of a bucket are never rounded.
        seed: of weights, inputs and roundings.
    """

    def __init__(self, widths: tuple[int, ...] = (4, 16, 64, 256, 1024), seed: int = 0):
        super().__init__()
        if not widths or min(widths) < 3:
            raise UserError(f"data.widths is {list(widths)}: give neurons of at least 3 weights")
        self.widths, self.seed = widths, seed

    def test_dataloader(self) -> DataLoader:
        rng = torch.Generator().manual_seed(self.seed)
        pairs = [(torch.randn(n, generator=rng), torch.randn(n, generator=rng).relu() + 0.1) for n in self.widths]
        return DataLoader(pairs, batch_size=None)  # type: ignore[arg-type]


class Noise(L.LightningModule):
    """Error (Q(v) - v) x of a neuron over many roundings: its mean, its variance, its distance from a normal one.

    Args:
        levels: s.
        bucket: values that are scaled together.
        draws: roundings of each neuron.
    """

    run_dir: Path

    def __init__(self, levels: int = 4, bucket: int = 256, draws: int = 20_000):
        super().__init__()
        self.levels, self.bucket, self.draws = levels, bucket, draws
        self.found: dict[int, tuple[float, float, float]] = {}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        weights, inputs = batch
        errors = self.errors(weights, inputs)
        variance = float(expected_variance(weights, inputs, self.levels, self.bucket))
        z = errors / np.sqrt(variance)
        self.found[len(weights)] = (float(z.mean()), float(z.var()), float(kstest(z, "norm").statistic))

    def errors(self, weights: Tensor, inputs: Tensor) -> np.ndarray:
        """One for each draw, float64."""
        scaled, seen = scale(weights, self.bucket), []
        for _ in range(0, self.draws, CHUNK):
            draws = torch.rand(CHUNK, *scaled.values.shape, device=weights.device)
            codes = uniform_codes(scaled, self.levels, draws)
            rounded = (scaled.alpha * codes / (self.levels - 1) + scaled.beta).flatten(1)[:, : len(weights)]
            seen.append((rounded - weights).double() @ inputs.double())
        return torch.cat(seen).cpu().numpy()

    def on_test_epoch_end(self) -> None:
        widths = sorted(self.found)
        mean, variance, distance = (np.array([self.found[n][k] for n in widths]) for k in range(3))
        self.log("test/noise_bias", float(np.abs(mean).max()))
        self.log("test/noise_variance", float(variance[np.abs(variance - 1).argmax()]))
        self.log("test/noise_narrow", float(distance[0]))
        self.log("test/noise_wide", float(distance[-1]))
        chart = line_chart(
            [Line(widths, list(distance), "distance", dots=True)],
            "weights of the neuron",
            "distance from normal",
            log_x=True,
        )
        caption = "Kolmogorov's distance of the rounding noise in a neuron's output from a normal distribution"
        save_picture(self.run_dir, "noise of stochastic rounding", chart, caption)


def expected_variance(weights: Tensor, inputs: Tensor, levels: int, bucket: int | None) -> Tensor:
    """sum x_i^2 (alpha / (s - 1))^2 f_i (1 - f_i), f the fractional part of a scaled weight times s - 1."""
    scaled = scale(weights.double(), bucket)
    places = scaled.values * (levels - 1)
    part = places - places.floor()
    step = scaled.alpha / (levels - 1)
    return (inputs.double().square() * scaled.cut(step.square() * part * (1 - part))).sum()


if __name__ == "__main__":
    main(Noise, Layers, links=one_seed)
