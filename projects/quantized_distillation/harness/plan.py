"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from torch import Tensor, nn

from common.recipe import Stage
from common.workload import Workload
from projects.quantized_distillation.losses import distillation_loss
from projects.quantized_distillation.model import ConvNet, Sizes

SGD_BYTES = 4
"""Momentum of a float32."""
TEST = 10_000
EVALUATED = 250
"""Pictures of CIFAR-10's test split, and of a step that nothing learns from."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config. Quantizing costs as good as nothing."""
    if stage.name == "noise":
        neuron = nn.Linear(max(config["data"]["widths"]), 1).requires_grad_(False)
        return Workload(neuron, lambda n: neuron(torch.zeros(n, neuron.in_features)), 1000, 20_000, unit="rounding")
    model, data = config["model"], config["data"]
    sizes = _sizes(model["net"])
    side = sizes.side
    nets = nn.ModuleDict({"net": ConvNet(sizes)})
    if stage.run == "test":
        nets.requires_grad_(False).eval()
        return Workload(nets, lambda n: nets["net"](torch.zeros(n, 3, side, side)), EVALUATED, TEST)
    if stage.module.endswith(".points"):
        nets["teacher"] = ConvNet(sizes)
    elif model.get("teacher_weights") is not None:
        nets["teacher"] = ConvNet(_sizes(model["teacher"]))
    if "teacher" in nets:
        nets["teacher"].requires_grad_(False).eval()

    def step(n: int) -> Tensor:
        images, labels = torch.zeros(n, 3, side, side), torch.zeros(n, dtype=torch.long)
        logits = nets["net"](images)
        if "teacher" not in nets:
            return nn.functional.cross_entropy(logits, labels)
        return distillation_loss(logits, nets["teacher"](images), labels)

    return Workload(
        nets,
        step,
        batch=data["batch_size"],
        samples=data["train"]["init_args"]["count"],
        optimizer_bytes=SGD_BYTES,
        workers=data["num_workers"],
    )


def _sizes(values: Any) -> Sizes:
    """Without dropout, which has no weights and as good as no work."""
    return Sizes(**{name: values[name] for name in ("filters", "kernel", "units", "pool")})
