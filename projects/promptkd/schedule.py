"""SGD with the official schedule of the prompt learners: a first epoch at next to nothing, then a cosine by epochs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from common.training.schedules import optimizer_steps


@dataclass(frozen=True)
class Epochs:
    """Rate and schedule.

    Attributes:
        lr: highest rate.
        first: rate of the first stretch.
        stretches: equal parts of the training with a rate each; None for its epochs. Trainings on other numbers of
            pictures are compared at equal rates where this is given.
        weight_decay: L2.
        momentum: of SGD.
    """

    lr: float = 0.005
    first: float = 1e-5
    stretches: int | None = None
    weight_decay: float = 5e-4
    momentum: float = 0.9

    def rate(self, stretch: int, stretches: int) -> float:
        """Of a stretch, counted from 0, of so many.

        The cosine begins after the first one and does not come to its end: the official code counts anew there.
        """
        if stretch == 0:
            return self.first
        return self.lr * (1 + math.cos(math.pi * (stretch - 1) / stretches)) / 2


OFFICIAL = Epochs()


def sgd(parameters: Iterable[nn.Parameter], settings: Epochs, trainer: L.Trainer) -> OptimizerLRSchedulerConfig:
    """In Lightning's form."""
    stretches, steps = settings.stretches or trainer.max_epochs or 1, optimizer_steps(trainer)
    optimiser = torch.optim.SGD(parameters, 1.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: settings.rate(min(step * stretches // steps, stretches - 1), stretches)
    )
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
