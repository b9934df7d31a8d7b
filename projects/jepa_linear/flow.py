"""Gradient flow as an optimiser: the equation dW/dt = -dLoss/dW, a Runge-Kutta step of its own length at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.integrate import RK45
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from common.errors import UserError


class GradientFlow(torch.optim.Optimizer):
    """Follows the gradient flow of a loss that does not change from step to step, with SciPy's Dormand-Prince pair.

    What a step needs to know of the one before, the time and the next length, stands in the parameter group, and so
    in checkpoints.

    Args:
        params: float64.
        until: the time at which the last step ends.
        rtol, atol: allowed errors of a step, relative and absolute, in every entry of a matrix.
    """

    def __init__(self, params: Any, until: float, rtol: float = 1e-6, atol: float = 1e-9):
        super().__init__(params, {"time": 0.0, "length": None, "until": until, "rtol": rtol, "atol": atol})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the loss some seven times, and move to the end of a step; nothing moves once the time is over."""
        assert closure is not None, "a flow evaluates the loss anew within a step"
        (group,) = self.param_groups
        weights: list[Tensor] = group["params"]
        losses: list[Any] = []

        @torch.enable_grad()
        def velocity(_: float, flat: np.ndarray) -> np.ndarray:
            _put(weights, flat)
            losses.append(closure())
            return -parameters_to_vector([w.grad for w in weights]).numpy()

        left = group["until"] - group["time"]
        if left <= 0:
            return closure()
        length = group["length"]
        solver = RK45(
            velocity,
            group["time"],
            parameters_to_vector(weights).detach().numpy().copy(),
            group["until"],
            rtol=group["rtol"],
            atol=group["atol"],
            first_step=None if length is None else min(length, left),
        )
        if refused := solver.step():
            raise UserError(f"the gradient flow cannot be followed beyond time {group['time']:g}: {refused}")
        _put(weights, solver.y)
        group["time"], group["length"] = float(solver.t), float(solver.h_abs)
        return losses[0]


@torch.no_grad()
def _put(weights: list[Tensor], flat: np.ndarray) -> None:
    """Write a flat vector into matrices of their own."""
    places = torch.from_numpy(flat).split([w.numel() for w in weights])
    for weight, values in zip(weights, places, strict=True):
        weight.copy_(values.view_as(weight))
