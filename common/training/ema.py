"""A moving average of a network's weights: the slow teacher of self-distillation."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from common.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


class Ema(nn.Module, Generic[Network]):
    """A frozen copy of a network that follows it: theta* <- decay theta* + (1 - decay) theta after every step.

    It starts as the network is. Buffers are copied as they are. The copy stays in evaluation mode, whatever module the
    average is part of, and lies in that module's state: a checkpoint holds it. Averages want weights in float32: a
    change of one part in thousands is lost in half precision.

    Args:
        model: what is followed; it is no part of the average.
        decay: from 0, which follows at once, to 1, which stays as it began.

    Example:
        self.teacher = Ema(self.student, 0.9996)
        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            self.teacher.update(self.student)
    """

    model: Network

    def __init__(self, model: Network, decay: float):
        super().__init__()
        if not 0 <= decay <= 1:
            raise UserError(f"the decay of a moving average is {decay}: it has to be from 0 to 1")
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step towards `model`: after the optimiser's."""
        for slow, fast in zip(self.model.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.decay)
        for slow, fast in zip(self.model.buffers(), model.buffers(), strict=True):
            slow.copy_(fast)

    def train(self, mode: bool = True) -> "Ema[Network]":
        """In evaluation mode it stays."""
        return super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
