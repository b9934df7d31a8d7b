"""Train the super-network with its sub-networks, one network of fixed widths, or the rival.

    python -m projects.controllable_mtl.train fit --config projects/controllable_mtl/configs/mini/base.yaml \\
        --config projects/controllable_mtl/configs/mini/train.yaml
"""

from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from common.cli import main, one_seed
from common.errors import UserError
from common.losses.distillation import soft_cross_entropy
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.weights import load_weights
from projects.controllable_mtl.data import TaskData
from projects.controllable_mtl.film import ConditionedEncoder
from projects.controllable_mtl.model import Configuration, Sizes, SuperNet
from projects.controllable_mtl.search import Space
from projects.controllable_mtl.tasks import Task, invariance

Outputs = dict[str, Tensor]
HEAD = ("fc.*", "*.running_mean", "*.running_var", "*.num_batches_tracked")
"""What official ResNet weights have and an encoder has not."""


class Training(L.LightningModule):
    """The SuperNet's loss alone for a while; then, in every step, that of the smallest SubNet and of random ones too.

    Subnets learn from the labels and from the SuperNet of the same step, whose answers are detached.

    Args:
        net: sizes at full width.
        tasks: in the order of preferences.
        encoder_weights: a ResNet's official weights to begin with; null begins at random.
        space: what is slimmed in sub-networks.
        distill: "features", the configuration-invariant loss on the encoder's features; "outputs", cross-entropy with
            the SuperNet's classes (in-place distillation); "nothing".
        distill_weight: lambda of either.
        subnets: random ones in a step, beside the smallest; 0 trains the SuperNet alone, for all of the time.
        alone: share of the steps that train the SuperNet alone.
        widths: train one network of these widths, encoder then decoders, instead.
        conditioned: of fixed widths and modulated by a preference: every step is taken on `subnets` + 1 random
            preferences, which weigh the losses.
        concentration: of the Dirichlet distribution of these; 1 draws all alike, less mostly extreme ones.
        lr: of AdamW with warm-up and a cosine.
        weight_decay: its.
        warmup_steps: its.
    """

    def __init__(
        self,
        net: Sizes,
        tasks: list[Task],
        encoder_weights: str | None = None,
        space: Space = Space(),  # noqa: B008  # it is frozen
        distill: Literal["features", "outputs", "nothing"] = "features",
        distill_weight: float = 5.0,
        subnets: int = 1,
        alone: float = 0.4,
        widths: list[float] | None = None,
        conditioned: bool = False,
        concentration: float = 1.0,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 20,
    ):
        super().__init__()
        for name, value, sound, wanted in (
            ("distill_weight", distill_weight, distill_weight >= 0, "0 or more"),
            ("subnets", subnets, subnets >= 0, "0 or more"),
            ("alone", alone, 0 <= alone <= 1, "from 0 to 1"),
            ("concentration", concentration, concentration > 0, "above 0"),
            ("lr", lr, lr > 0, "above 0"),
        ):
            if not sound:
                raise UserError(f"model.{name} is {value}: it has to be {wanted}")
        if conditioned and widths is None:
            raise UserError("model.conditioned is a network of fixed widths: give model.widths, 1 for full ones")
        if distill == "outputs" and (other := [t.name for t in tasks if t.kind not in ("class", "segments")]):
            raise UserError(f"model.distill outputs: task {other[0]} has no classes; distil features, or leave it out")
        self.net = build(net, tasks, conditioned)
        self.tasks, self.space, self.fixed, self.conditioned = tasks, space, fixed(net, tasks, widths), conditioned
        self.distill, self.distill_weight, self.subnets, self.alone = distill, distill_weight, subnets, alone
        self.concentration = concentration
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.steps = 0
        """Of the whole training."""
        if encoder_weights is not None:
            load_encoder(self.net.encoder.net, encoder_weights)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.rival(batch) if self.conditioned else self.sandwich(batch)
        self.log("train/loss", loss)
        return loss

    def sandwich(self, batch: dict[str, Tensor]) -> Tensor:
        """L(1) + sum over c of L(c) + lambda D(c): the SuperNet, the smallest SubNet and random ones."""
        images = batch["image"]
        features, outputs = self.net(images, self.fixed or self.net.full)
        loss = self.task_loss(outputs, batch)
        if self.fixed or not self.subnets or self.global_step < self.alone * self.steps:
            return loss
        drawn = [self.net.draw(self.space.encoder, self.space.decoders) for _ in range(self.subnets)]
        for widths in (self.smallest(), *drawn):
            own, answers = self.net(images, widths)
            loss = loss + self.task_loss(answers, batch)
            if self.distill == "features":
                loss = loss + self.distill_weight * invariance(own, features.detach())
            elif self.distill == "outputs":
                soft = [soft_classes(answers[t.name], outputs[t.name].detach()) for t in self.tasks]
                loss = loss + self.distill_weight * torch.stack(soft).sum()
        return loss

    def rival(self, batch: dict[str, Tensor]) -> Tensor:
        """Losses weighted by K times a random preference, averaged over preferences."""
        drawn = torch.distributions.Dirichlet(torch.full((len(self.tasks),), self.concentration))
        losses = []
        for _ in range(self.subnets + 1):
            preference = drawn.sample().to(self.device)
            _, outputs = self.net(batch["image"], self.fixed, preference[None])
            losses.append(self.task_loss(outputs, batch, (len(self.tasks) * preference).unbind()))
        return torch.stack(losses).mean()

    def task_loss(self, outputs: Outputs, batch: dict[str, Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
        losses = [task.weight * task.loss(outputs[task.name], batch[task.name]) for task in self.tasks]
        return torch.stack(losses if weights is None else [w * x for w, x in zip(weights, losses, strict=True)]).sum()

    def smallest(self) -> Configuration:
        """Of what may be slimmed."""
        least, full = self.net.sizes.widths[0], self.net.full
        return Configuration(
            tuple(least if self.space.encoder else x for x in full.encoder),
            tuple(least if self.space.decoders else x for x in full.decoders),
        )

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss at full (or the fixed) width, with the batch's own statistics."""
        equal = [torch.full((1, len(self.tasks)), 1 / len(self.tasks), device=self.device)] if self.conditioned else []
        _, outputs = self.net(batch["image"], self.fixed or self.net.full, *equal)
        self.log("val/loss", self.task_loss(outputs, batch), batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        self.steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, self.warmup_steps, self.steps)

    def exported(self) -> nn.Module:
        return self.net


def soft_classes(student: Tensor, teacher: Tensor) -> Tensor:
    """In-place distillation: soft cross-entropy at temperature 1, of pictures [B, K] or of positions [B, K, h, w]."""
    return soft_cross_entropy(student.movedim(1, -1), teacher.movedim(1, -1))


def build(sizes: Sizes, tasks: list[Task], conditioned: bool) -> SuperNet:
    """The network of a config; UserError for tasks that are none or share a name."""
    if not tasks or len({task.name for task in tasks}) < len(tasks):
        raise UserError("model.tasks: at least one task is needed, and a name of its own for each")
    return SuperNet(sizes, tasks, ConditionedEncoder(sizes, len(tasks)) if conditioned else None)


def fixed(sizes: Sizes, tasks: list[Task], widths: list[float] | None) -> Configuration | None:
    """Widths of a network that is not slimmed."""
    if widths is None:
        return None
    stages = len(sizes.planes)
    if len(widths) != stages + len(tasks) or not all(w in sizes.widths for w in widths):
        raise UserError(
            f"model.widths are {widths}: give {stages} of the encoder's stages and {len(tasks)} of the decoders, "
            f"each of {sizes.widths}"
        )
    return Configuration(tuple(widths[:stages]), tuple(widths[stages:]))


def load_encoder(encoder: nn.Module, weights: str) -> None:
    """Fill all but the neck (and what reads preferences) with a ResNet's official weights."""
    plain = nn.Module()
    for name, layer in encoder.named_children():
        if name == "conv1" or name.startswith(("bn1", "layer")):
            plain.add_module(name, layer)
    load_weights(plain, expand(weights, "model.encoder_weights"), ignore=HEAD)


if __name__ == "__main__":
    main(Training, TaskData, links=one_seed)
