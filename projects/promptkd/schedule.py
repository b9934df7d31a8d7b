"""SGD with the official schedule of the prompt learners: a first epoch at next to nothing, then a cosine by epochs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn


@dataclass(frozen=True)
class Epochs:
    """Rate and schedule.

    Attributes:
        lr: highest rate.
        first: rate of the first epoch.
        weight_decay: L2.
        momentum: of SGD.
    """

    lr: float = 0.005
    first: float = 1e-5
    weight_decay: float = 5e-4
    momentum: float = 0.9

    def rate(self, epoch: int, epochs: int) -> float:
        """Of an epoch, counted from 0, of so many.

        The cosine begins after the first epoch and does not come to its end: the official code counts anew there.
        """
        if epoch == 0:
            return self.first
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


OFFICIAL = Epochs()


def sgd(parameters: Iterable[nn.Parameter], settings: Epochs, epochs: int) -> OptimizerLRSchedulerConfig:
    """In Lightning's form, for a training of so many epochs."""
    optimiser = torch.optim.SGD(parameters, 1.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: settings.rate(epoch, epochs))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
