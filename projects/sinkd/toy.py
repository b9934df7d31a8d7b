"""Fit one Gaussian to a narrow mode, or to two modes, through a divergence: the study that motivates the method.

    python -m projects.sinkd.toy test --config projects/sinkd/configs/mini/toy.yaml --model.divergence js

Here mass is transported between the *bins* of one distribution, at a cost of their distance. SinKD itself transports
between the *samples* of a batch, where classes have no geometry. So the fits support the motivation; what SinKD's loss
does where teacher and student disagree is measured apart, at the logits.
"""

from collections.abc import Callable
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.charts import Line, line_chart, side_by_side
from common.cli import main
from common.losses.distillation import jensen_shannon, reverse_kl, soft_cross_entropy
from common.training.runs import save_picture
from projects.sinkd.sinkhorn import sinkhorn_loss

Divergence = Literal["kl", "rkl", "js", "transport"]
GRID = torch.linspace(-4, 4, 81)
COST = (GRID[:, None] - GRID[None]).abs()

NARROW = (-2.0, 0.15)  # mean and standard deviation
MAJOR, MINOR, RARE = (-1.5, 0.4), (2.0, 0.25), 0.3  # two modes, and the mass of the second
APART = (1.0, 3.0)  # means from which the student does not see the narrow mode
START_STD = 0.3


def log_gaussian(mean: Tensor, std: Tensor, floor: float) -> Tensor:
    """Log-probabilities of the bins, [..., 81]; no bin has less than about `floor`."""
    mass = (-((GRID - mean[..., None]) ** 2) / (2 * std[..., None] ** 2)).softmax(-1)
    return ((mass + floor) / (1 + floor * len(GRID))).log()


def two_modes(floor: float) -> Tensor:
    """Log-probabilities of the mixture, [81]."""
    major, minor = (log_gaussian(torch.tensor(mean), torch.tensor(std), floor) for mean, std in (MAJOR, MINOR))
    return torch.logaddexp(major + np.log(1 - RARE), minor + np.log(RARE))


def mass_of(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """What histograms [..., 81] have between the two modes, and at the rare one, two standard deviations around it."""
    major, minor = ((GRID - mean).abs() <= 2 * std for mean, std in (MAJOR, MINOR))
    between = (MAJOR[0] < GRID) & (MINOR[0] > GRID) & ~major & ~minor
    mass = log_p.exp()
    return mass[..., between].sum(-1), mass[..., minor].sum(-1)


def bin_transport(log_p: Tensor, log_q: Tensor, epsilon: float = 0.1, iterations: int = 60) -> Tensor:
    """Mean entropic transport cost |x - y| between histograms with log-probabilities [..., 81].

    The kernel's least entry is exp(-80), well within float64.
    """
    p, q, cost = log_p.double().exp(), log_q.double().exp(), COST.double()
    kernel = torch.exp(-cost / epsilon)
    columns = torch.ones_like(q)
    for _ in range(iterations):
        rows = p / (columns @ kernel)
        columns = q / (rows @ kernel)
    return (rows * (columns @ (kernel * cost))).sum(-1).mean()


BETWEEN_BINS: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": soft_cross_entropy,
    "rkl": reverse_kl,
    "js": jensen_shannon,
    "transport": bin_transport,
}
AT_LOGITS: dict[Divergence, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": soft_cross_entropy,
    "rkl": reverse_kl,
    "js": jensen_shannon,
    "transport": sinkhorn_loss,
}


def fit(
    divergence: Divergence, log_q: Tensor, starts: Tensor, floor: float, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations [S] that Adam finds from the starting means [S], each on its own."""
    mean, log_std = starts.clone().requires_grad_(), torch.full_like(starts, START_STD).log().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_std], lr)
    target = log_q.expand(len(starts), -1)
    for _ in range(steps):
        optimizer.zero_grad()
        # the mean over the starts, times their number: a start does not depend on the others
        loss = BETWEEN_BINS[divergence](log_gaussian(mean, log_std.exp(), floor), target) * len(starts)
        loss.backward()
        optimizer.step()
    return mean.detach(), log_std.detach().exp()


def mean_gradient(divergence: Divergence, log_q: Tensor, means: Tensor, floor: float) -> Tensor:
    """|d divergence / d mean| of Gaussians with these means [S]."""
    means = means.clone().requires_grad_()
    log_p = log_gaussian(means, torch.full_like(means, START_STD), floor)
    loss = BETWEEN_BINS[divergence](log_p, log_q.expand(len(means), -1)) * len(means)
    return torch.autograd.grad(loss, means)[0].abs()


def logit_gradient(divergence: Divergence, certainty: float) -> float:
    """Largest entry of the gradient at the logits of one student sample, certain of a class the teacher excludes."""
    student = torch.tensor([[certainty, 0.0, 0.0]], requires_grad=True)
    loss = AT_LOGITS[divergence](student, torch.tensor([[0.0, 10.0, 0.0]]), 2.0)
    return torch.autograd.grad(loss, student)[0].abs().max().item()


class Starts(L.LightningDataModule):
    """The means that the student starts from.

    Args:
        count: so many, evenly from -3.5 to 3.5.
    """

    def __init__(self, count: int = 8):
        super().__init__()
        self.count = count

    def test_dataloader(self) -> DataLoader:
        return DataLoader(torch.linspace(-3.5, 3.5, self.count).tolist(), self.count)


class Toy(L.LightningModule):
    """What a divergence's gradient does where distributions are disjoint, and where it leads with one and two modes.

    Args:
        divergence: what is minimised; "transport" is the entropic transport cost between bins, and at the logits L_SD.
        floor: least probability of a bin. KL's gradient at a distance is as long as this is small.
        steps: of Adam.
        lr: its learning rate.
    """

    def __init__(self, divergence: Divergence, floor: float = 1e-12, steps: int = 300, lr: float = 0.05):
        super().__init__()
        self.divergence, self.floor, self.steps, self.lr = divergence, floor, steps, lr
        self.found: dict[str, Any] = {}

    @torch.enable_grad()
    def test_step(self, starts: Tensor, batch_idx: int) -> None:
        starts = starts.float().cpu()
        narrow = log_gaussian(torch.tensor(NARROW[0]), torch.tensor(NARROW[1]), self.floor)
        double = two_modes(self.floor)
        settings = (starts, self.floor, self.steps, self.lr)
        mean, std = fit(self.divergence, narrow, *settings)
        found = (mean - NARROW[0]).abs() < 0.1
        self.log("test/toy_gradient", mean_gradient(self.divergence, narrow, torch.tensor(APART), self.floor).min())
        self.log("test/toy_recovered", found.float().mean())
        ends = fit(self.divergence, double, *settings)
        valley, rare = mass_of(log_gaussian(*ends, self.floor))
        self.log("test/toy_valley", valley.mean())
        self.log("test/toy_rare", rare.min())
        self.log("test/toy_start_matters", ends[0].std())
        self.log("test/logit_gradient", logit_gradient(self.divergence, 10.0))
        self.draw(narrow, double, (mean, std), ends)

    def draw(self, narrow: Tensor, double: Tensor, one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> None:
        """Where the fits end, and how long the gradient is at each distance for several floors."""
        x = GRID.tolist()
        for key, target, ends, high, what in (
            ("one narrow mode", narrow, one, 0.3, f"one mode at {NARROW[0]:g}"),
            ("two modes", double, two, 0.1, f"{1 - RARE:.0%} of the mass at {MAJOR[0]:g}, {RARE:.0%} at {MINOR[0]:g}"),
        ):
            masses = log_gaussian(*ends, self.floor).exp().tolist()
            fits = [Line(x, mass, "students", faint=True) for mass in masses]
            teacher = Line(x, target.exp().tolist(), "teacher")
            chart = line_chart([*fits, teacher], "x", "probability", self.divergence, limits=(0.0, high))
            caption = f"{what}: the student after {self.steps} steps from each of {len(fits)} starts, over the teacher"
            save_picture(self.run_dir, key, chart, caption[0].upper() + caption[1:])
        certainties = np.linspace(0, 20, 41).tolist()
        save_picture(
            self.run_dir,
            "gradient where teacher and student disagree",
            side_by_side(
                line_chart(
                    [Line(x, self.gradients(floor), f"floor {floor:g}") for floor in (1e-6, 1e-12, 1e-20)],
                    "student's mean",
                    "|gradient|",
                    f"{self.divergence}, teacher at {NARROW[0]:g}",
                    limits=(0.0, 2.0),
                ),
                line_chart(
                    [Line(certainties, [logit_gradient(self.divergence, a) for a in certainties])],
                    "a, of a student (a, 0, 0)",
                    "largest |gradient|",
                    "one sample, teacher (0, 10, 0)",
                    limits=(0.0, 0.5),
                ),
            ),
            "Left: gradient of the student's mean, for several floors under the probabilities. Right: gradient of the "
            "loss that a classifier trains with, at the logits of a student that grows sure of a wrong class",
        )

    def gradients(self, floor: float) -> list[float]:
        """Gradient of the student's mean at every bin, from the narrow mode."""
        narrow = log_gaussian(torch.tensor(NARROW[0]), torch.tensor(NARROW[1]), floor)
        return mean_gradient(self.divergence, narrow, GRID, floor).tolist()


if __name__ == "__main__":
    main(Toy, Starts)
