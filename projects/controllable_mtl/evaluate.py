"""Sweep preferences at several budgets: what a network serves, at what cost, and how well.

    python -m projects.controllable_mtl.evaluate test --config projects/controllable_mtl/configs/mini/base.yaml \\
        --config projects/controllable_mtl/configs/mini/evaluate.yaml --model.weights FILE
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_weights
from projects.controllable_mtl.bench import Bench
from projects.controllable_mtl.data import TaskData
from projects.controllable_mtl.harness import pictures
from projects.controllable_mtl.measures import follows, hypervolume
from projects.controllable_mtl.model import Configuration, Costs, Sizes
from projects.controllable_mtl.search import Pick, Ratios, Rule, Space, checked, configure, sweep
from projects.controllable_mtl.tasks import Task
from projects.controllable_mtl.train import build, fixed


@dataclass(frozen=True)
class Setting:
    """What was asked, and what came of it.

    Attributes:
        preference: sums to 1.
        budget: share of the SuperNet's operations.
        widths: what serves it; several where any of them may; none where nothing fits.
        cost: share of the SuperNet's operations, the largest of them.
        scores: of each task on the test split, from its floor, 0, to perfection, 1.
    """

    preference: Ratios
    budget: float
    widths: tuple[Configuration, ...]
    cost: float
    scores: tuple[float, ...]


class Evaluation(L.LightningModule):
    """Every preference of a sweep at every budget.

    Args:
        net: sizes at full width.
        tasks: as in training.
        weights: a training's.
        space: what was slimmed in training.
        rule: how decoders are sized; "uniform" takes no notice of the preference.
        pick: the "best" encoder on the validation split, or "any" that costs as much: their mean.
        budgets: shares of the SuperNet's operations.
        preferences: of the tasks; null takes equal ones, each task alone, and halfway between.
        widths: those of a network of fixed widths.
        conditioned: it reads the preference.
        calibration: training samples for the batch norms' statistics.
        evaluations: encoders that a search may look at.
        subnets: so many configurations, drawn once, are averaged over; null takes all.
        keep: hold validation and test split in memory.
    """

    run_dir: Path

    def __init__(
        self,
        net: Sizes,
        tasks: list[Task],
        weights: str,
        space: Space = Space(),  # noqa: B008  # it is frozen
        rule: Rule = "preference",
        pick: Pick = "best",
        budgets: list[float] = [0.4, 0.55, 0.7, 1.0],  # noqa: B006  # nobody changes it
        preferences: list[list[float]] | None = None,
        widths: list[float] | None = None,
        conditioned: bool = False,
        calibration: int = 512,
        evaluations: int = 32,
        subnets: int | None = None,
        keep: bool = False,
    ):
        super().__init__()
        if not budgets or not all(0 < b <= 1 for b in budgets):
            raise UserError(f"model.budgets are {budgets}: shares above 0, and 1 at most")
        if min(calibration, evaluations, 1 if subnets is None else subnets) < 1:
            raise UserError("model.calibration, model.evaluations and model.subnets have to be at least 1")
        self.net = build(net, tasks, conditioned).requires_grad_(False)
        load_weights(self.net, expand(weights, "model.weights"))
        self.space, self.rule, self.pick, self.budgets = space, rule, pick, budgets
        self.preferences = [checked(p, len(tasks)) for p in preferences or sweep(len(tasks))]
        self.fixed, self.conditioned = fixed(net, tasks, widths), conditioned
        self.calibration, self.evaluations, self.subnets, self.keep = calibration, evaluations, subnets, keep

    def test_step(self, batch: Any, batch_idx: int) -> None:
        data: TaskData = self.trainer.datamodule  # type: ignore[attr-defined]
        self.bench = Bench(self.net, data, self.calibration, self.keep, self.device)
        equal = [torch.full((1, len(self.net.tasks)), 1 / len(self.net.tasks))] if self.conditioned else []
        self.costs = Costs(self.net, data.size, equal)
        found = self.widest()
        settings = [self.setting(p, b) for b in self.budgets for p in self.preferences]
        found |= swept(settings)
        if self.fixed is None and (self.rule, self.pick) == ("preference", "best"):  # else `ecmt` measures this network
            found |= self.slimmed()
        for name, value in found.items():
            self.log(f"test/{name}", float(value), batch_size=1)
        for name, (chart, caption) in pictures.of_sweep(settings, [t.name for t in self.net.tasks]).items():
            save_picture(self.run_dir, name, chart, caption)

    def setting(self, preference: Ratios, budget: float) -> Setting:
        """Ask for one preference at one budget."""
        whole = self.costs.total(self.net.full)
        widths = self.serving(preference, budget * whole)
        shown = preference if self.conditioned else None
        scores = [self.bench.scores(w, "test", shown) for w in widths]
        cost = max((self.costs.total(w) / whole for w in widths), default=0.0)
        means = np.mean(scores, 0) if scores else np.zeros(len(preference))  # who does not serve scores as a constant
        return Setting(preference, budget, widths, cost, tuple(float(x) for x in means))

    def serving(self, preference: Ratios, budget: float) -> tuple[Configuration, ...]:
        """Widths for a preference within so many operations."""
        if self.fixed is not None:
            return (self.fixed,) if self.costs.total(self.fixed) <= budget else ()
        among = configure(self.net, self.costs, preference, budget, self.space, self.rule)
        if among and self.pick == "best":
            return (self.bench.best(among, self.evaluations),)
        order = np.random.default_rng(0).permutation(len(among))[: self.evaluations]
        return tuple(among[k] for k in sorted(order))

    def widest(self) -> dict[str, float]:
        """The SuperNet, or the network of fixed widths with equal preferences: the first measured, so that features'
        distances from it are known."""
        tasks = self.net.tasks
        widths, equal = self.fixed or self.net.full, (1 / len(tasks),) * len(tasks) if self.conditioned else None
        found = {"full": float(np.mean(self.bench.scores(widths, "test", equal)))}
        found["val_full"] = float(np.mean(self.bench.scores(widths, "val", equal)))
        figures = self.bench.figures(widths, "test", equal)
        return found | {f"full_{task.name}": figure for task, figure in zip(tasks, figures, strict=True)}

    def slimmed(self) -> dict[str, float]:
        """Of sub-networks, whoever asks for them: all that may be slimmed, each width of it alike."""
        net, full = self.net, self.net.full
        encoders = net.encoders() if self.space.encoder else [full.encoder]
        ratios = net.sizes.widths if self.space.decoders else [1.0]
        least = Configuration(min(encoders, key=self.costs.encoder), (ratios[0],) * len(net.tasks))
        if self.subnets is not None:
            chosen = np.random.default_rng(0).permutation(len(encoders))[: self.subnets]
            encoders = [encoders[k] for k in chosen]
        # a task's figure does not depend on other tasks' decoders: equal ones stand for all combinations
        every = {r: [Configuration(encoder, (r,) * len(net.tasks)) for encoder in encoders] for r in ratios}
        scores = {
            split: [float(np.mean([self.bench.scores(c, split) for c in every[r]])) for r in ratios]
            for split in ("val", "test")
        }
        found = {
            "subnets": float(np.mean(scores["test"])),
            "val_subnets": float(np.mean(scores["val"])),
            "val_response": scores["val"][-1] - scores["val"][0],
            "cost_least": self.costs.total(least) / self.costs.total(full),
        }
        if narrow := [self.bench.distance[e] for e in encoders if e != full.encoder]:
            found["distance"] = float(np.mean(narrow))
        return found


def swept(settings: list[Setting]) -> dict[str, float]:
    """Measures over a sweep; a budget's hypervolume begins at the tasks' floors.

    How scores follow preferences is a matter of the budgets that are served: 0 where none is.
    """
    found: dict[str, float] = {
        "served": float(np.mean([bool(s.widths) for s in settings])),
        "over": max(s.cost / s.budget for s in settings),
        "overall": float(np.mean([s.scores for s in settings])),
    }
    volumes, orders, alone, gaps = [], [], [], []
    for budget in sorted({s.budget for s in settings}):
        here = [s for s in settings if s.budget == budget]
        scores, asked = np.array([s.scores for s in here]), np.array([s.preference for s in here])
        volumes.append(hypervolume(scores, np.zeros(scores.shape[1])))
        found[f"hv_{round(100 * budget)}"] = volumes[-1]
        best_asked, least_asked = (
            scores[side(asked, 0), np.arange(scores.shape[1])] for side in (np.argmax, np.argmin)
        )
        alone.append(best_asked.mean())
        if any(s.widths for s in here):
            orders.append(follows(list(asked), scores))
            gaps.append((best_asked - least_asked).mean())
    return found | {
        "hv": float(np.mean(volumes)),
        "follows": float(np.mean(orders or [0.0])),
        "preferred": float(np.mean(alone)),
        "control": float(np.mean(gaps or [0.0])),
    }


if __name__ == "__main__":
    main(Evaluation, TaskData, links=one_seed)
