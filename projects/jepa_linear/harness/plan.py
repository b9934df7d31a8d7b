"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them.

Everything runs on a CPU in minutes. A step of the gradient flow evaluates the loss seven times. What SciPy integrates
and NumPy measures, in the stages `theory` and `evaluate`, is seconds of work that no counter of operations sees.
"""

from typing import Any

import torch
from torch import Tensor, nn

from common.recipe import Stage
from common.workload import Workload
from projects.jepa_linear.model import DeepLinear, half_square
from projects.jepa_linear.theory import velocity

EVALUATIONS = 7
"""Of the loss, in an accepted step of `flow.GradientFlow`."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's network, its step and its amounts, from the paper's config."""
    if stage.run == "test":
        return _equations(config)
    model, data = config["model"], config["data"]
    size = _size(data["source"]["init_args"])
    net = DeepLinear(size, model["depth"], model["eps"], model["objective"], relu=model.get("relu", False))
    evaluations = EVALUATIONS if model.get("lr") is None else 1

    def loss(n: int) -> Tensor:
        x, y = (torch.zeros(n, size, dtype=torch.float64) for _ in range(2))
        target = net.encode(y) if model["objective"] == "jepa" else y
        stopped = target if model.get("target") == "gradient" else target.detach()
        return half_square(net.predict(net.encode(x)), stopped)

    def step(n: int) -> Tensor:
        return torch.stack([loss(n) for _ in range(evaluations)]).sum()

    batch = data.get("samples") or 2 * size
    return Workload(net, step, batch, batch, unit="pair", optimizer_bytes=0)


class _Equations(nn.Module):
    """Lambda, rho and gain of features."""

    def __init__(self, size: int):
        super().__init__()
        self.values = nn.Parameter(torch.ones(3, size, dtype=torch.float64), requires_grad=False)


def _equations(config: dict[str, Any]) -> Workload:
    """Every feature's velocity, once; networks are held against the theory of their own features, here of one."""
    model, features = config.get("model", {}), config.get("data", {}).get("features")
    net = _Equations(_size(features["init_args"]) if features else 1)

    def step(n: int) -> Tensor:
        gain, lam, rho = net.values
        return velocity(model.get("objective", "jepa"), gain, lam, rho, max(model.get("depths", [1])))

    return Workload(net, step, 1, len(model.get("depths", [1])), unit="depth")


def _size(source: dict[str, Any]) -> int:
    """Features of a source."""
    return source["count"] if "count" in source else source["clean"]["count"] + source["noisy"]["count"]
