"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from torch import Tensor

from common.recipe import Stage
from common.workload import Workload
from projects.controllable_mtl.model import Configuration, Sizes, SuperNet
from projects.controllable_mtl.tasks import Task, invariance
from projects.controllable_mtl.train import build

PICTURES = {"Nyud": (795, 654), "PascalContext": (4998, 5105), "Cityscapes": (2975, 500), "Cifar100": (50_000, 10_000)}
"""Of each data set's two splits."""
PASSES = 100
"""Encoders, about, that a sweep goes through validation and test pictures with."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's network, its step and its amounts, from the paper's config. SubNets count with half of the widths."""
    model, data = config["model"], config["data"]
    tasks, rival = [Task(**task) for task in model["tasks"]], bool(model.get("conditioned"))
    net = build(Sizes(**model["net"]), tasks, rival)
    train, test = PICTURES[data["train"]["class_path"].rpartition(".")[2]]

    def forward(n: int, widths: Configuration) -> tuple[Tensor, Tensor]:
        """Features, and the sum of all outputs."""
        condition = [torch.full((1, len(tasks)), 1 / len(tasks))] if rival else []
        features, outputs = net(torch.zeros(n, 3, *data["size"]), widths, *condition)
        return features, torch.stack([out.float().sum() for out in outputs.values()]).sum()

    fixed = model.get("widths")
    stages = len(net.sizes.planes)
    given = Configuration(tuple(fixed[:stages]), tuple(fixed[stages:])) if fixed else net.full
    if stage.run == "test":
        net.requires_grad_(False)
        samples = PASSES * (test + data["held_out"])
        return Workload(
            net, lambda n: forward(n, half(net)), data["eval_batch_size"], samples, workers=data["num_workers"]
        )
    subnets = model.get("subnets", 1)

    def step(n: int) -> Tensor:
        features, loss = forward(n, given)
        others = [given] * subnets if rival else [half(net)] * (subnets + 1) if subnets and not fixed else []
        for widths in others:
            own, more = forward(n, widths)
            loss = loss + more + (0 if rival else invariance(own, features.detach()))
        return loss

    return Workload(net, step, data["batch_size"], train - data["held_out"], workers=data["num_workers"])


def half(net: SuperNet) -> Configuration:
    """A SubNet of half the channels everywhere."""
    full = net.full
    return Configuration(tuple(0.5 for _ in full.encoder), tuple(0.5 for _ in full.decoders))
