"""Train a network on few-bit weights or full ones, from labels or from a teacher: quantized distillation and what it is
compared with.

    python -m projects.quantized_distillation.train fit \\
        --config projects/quantized_distillation/configs/mini/student.yaml \\
        --config projects/quantized_distillation/configs/mini/quantized_2.yaml --model.teacher_weights FILE
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.schedules import optimizer_steps
from common.training.weights import load_weights
from projects.quantized_distillation.data import LabelledData
from projects.quantized_distillation.losses import Divided, distillation_loss
from projects.quantized_distillation.model import ConvNet, Sizes, accuracy
from projects.quantized_distillation.quantize import Quantizer

Schedule = Literal["halving", "cosine"]


class Halving(ReduceLROnPlateau):
    """The official schedule: halve the rate where validation accuracy has not gained a thousandth for ten epochs.

    After a halving eight epochs pass before the next; the ten are not counted anew. A plateau of more than 30 epochs,
    or a twelfth halving, ends the training.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        super().__init__(optimizer, mode="max", factor=0.5, patience=10, cooldown=8, threshold=1e-3)
        self.record, self.stalled, self.wait, self.halvings = float("-inf"), 0, 0, 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        value = float(metrics)
        if value > self.record + self.threshold:
            self.record, self.stalled = value, 0
        else:
            self.stalled += 1
        self.wait = max(self.wait - 1, 0)
        if self.stalled >= self.patience and self.wait == 0:
            self.wait, self.halvings = self.cooldown, self.halvings + 1
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factor

    @property
    def finished(self) -> bool:
        return self.stalled > 30 or self.halvings > 11


class Student(L.LightningModule, ABC):
    """What training weights and learning points have in common: loss, validation, SGD with its schedule.

    Subclasses have `net`, and `teacher` (None learns from labels alone), which is no part of their checkpoints.
    """

    net: ConvNet
    teacher: ConvNet | None

    def __init__(
        self, lr: float, weight_decay: float, schedule: Schedule, temperature: float, weight: float, divided: Divided
    ):
        super().__init__()
        if lr <= 0 or temperature <= 0 or not 0 <= weight <= 1:
            raise UserError("model.lr and model.temperature have to be above 0, model.weight from 0 to 1")
        self.lr, self.weight_decay, self.schedule = lr, weight_decay, schedule
        self.temperature, self.weight, self.divided = temperature, weight, divided

    @abstractmethod
    def values(self) -> dict[str, Tensor]:
        """What stands in the place of the network's parameters, by name."""

    def trained(self) -> list[nn.Parameter]:
        return list(self.net.parameters())

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = functional_call(self.net, self.values(), batch["image"])
        if self.teacher is None:
            loss = F.cross_entropy(logits, batch["label"])
        else:
            with torch.no_grad():
                target = self.teacher(batch["image"])
            loss = distillation_loss(logits, target, batch["label"], self.temperature, self.weight, self.divided)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        found = accuracy(functional_call(self.net, self.values(), batch["image"]), batch["label"])
        self.log("val/accuracy", found.mean(), batch_size=len(found), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.trained(), self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )
        if self.schedule == "cosine":
            scheduler = CosineAnnealingLR(optimizer, optimizer_steps(self.trainer))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        plateau = {"scheduler": Halving(optimizer), "monitor": "val/accuracy", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": plateau}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        super().lr_scheduler_step(scheduler, metric)
        if isinstance(scheduler, Halving) and scheduler.finished:
            self.trainer.should_stop = True

    def on_train_epoch_start(self) -> None:
        if self.teacher is not None:
            self.teacher.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teacher is not None:  # it was loaded from its own file
            checkpoint["state_dict"] |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}


class Training(Student):
    """Every loss and gradient is that of quantized weights Q(w); the step is taken on w, which stay whole (section 3).

    Without a quantizer w itself is trained, without a teacher from labels alone. Q is computed anew at every step; its
    gradient is passed straight through to w.

    Args:
        net: sizes of the network that is trained.
        teacher: sizes of the teacher.
        teacher_weights: the teacher's weights; None learns from labels.
        quantizer: how weights are quantized; None leaves them whole.
        lr: of SGD with Nesterov momentum 0.9.
        weight_decay: L2.
        schedule: "halving" is the official one; "cosine" ends at 0 with the last step.
        temperature: T.
        weight: of the teacher's term; the labels' is 1 - weight.
        divided: by what the soft term is divided.
    """

    def __init__(
        self,
        net: Sizes,
        teacher: Sizes | None = None,
        teacher_weights: str | None = None,
        quantizer: Quantizer | None = None,
        lr: float = 1e-3,
        weight_decay: float = 2.2e-4,
        schedule: Schedule = "halving",
        temperature: float = 2.0,
        weight: float = 0.7,
        divided: Divided = "elements",
    ):
        super().__init__(lr, weight_decay, schedule, temperature, weight, divided)
        self.net, self.teacher, self.quantizer = ConvNet(net), None, quantizer
        if quantizer is not None:
            quantizer.chosen(self.net)
        if teacher_weights is not None:
            if teacher is None:
                raise UserError("model.teacher_weights needs the sizes of that network: give model.teacher")
            self.teacher = load(teacher, teacher_weights, "model.teacher_weights").requires_grad_(False).eval()

    def values(self) -> dict[str, Tensor]:
        return {} if self.quantizer is None else self.quantizer.projected(self.net)

    def exported(self) -> nn.Module:
        """The whole weights: who uses them quantizes them."""
        return self.net


def load(sizes: Sizes, weights: str, what: str) -> ConvNet:
    """A network with a stage's weights; UserError where they do not fit."""
    return load_weights(ConvNet(sizes), expand(weights, what))


if __name__ == "__main__":
    main(Training, LabelledData, links=one_seed)
