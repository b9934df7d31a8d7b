"""Train a student to give a frozen teacher's maps of cloth without a fault (Thomine & Snoussi 2024).

    python -m projects.fabric_ad.distill fit --config projects/fabric_ad/configs/mini/student.yaml \\
        --config projects/fabric_ad/configs/mini/residual.yaml --model.teacher_weights FILE --data.categories '[twill]'
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torchmetrics import MeanMetric
from torchvision.transforms.v2.functional import gaussian_blur

from common.cli import main, one_seed
from common.errors import UserError
from common.training.schedules import optimizer_steps
from projects.fabric_ad.data import Batch, FabricData
from projects.fabric_ad.losses import flat_loss, position_loss
from projects.fabric_ad.teacher import Teacher

Loss = Literal["positions", "maps"]
Schedule = Literal["plateau", "one_cycle"]
KERNEL = 3
"""Side of the Gaussian that blurs pictures of training and validation, pixels."""


class Distillation(L.LightningModule):
    """The loss is the distance of the student's maps from the teacher's; the student alone is trained.

    What is kept is the student with the least loss on held-out pictures.

    Args:
        teacher: a ResNet of timm.
        student: gives maps from pictures and the teacher's maps; its `levels` says which of t0 to t3.
        teacher_weights: the teacher's, if not those that it comes with.
        loss: "positions" is DBFAD's, "maps" RD4AD's.
        lr: of Adam; with "one_cycle" the highest.
        beta1: of Adam.
        schedule: "plateau" is the official one, a tenth of the rate after five epochs without gain and the end after
            ten. "one_cycle" is that of the same author's later code, and for short trainings.
        blur: train and validate on slightly blurred pictures, as the official code; tests are never blurred.
        frozen_norms: batch norms keep their statistics from the second epoch on. The official code never goes back to
            training mode after its first validation.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        teacher_weights: str | None = None,
        loss: Loss = "positions",
        lr: float = 5e-3,
        beta1: float = 0.9,
        schedule: Schedule = "plateau",
        blur: bool = True,
        frozen_norms: bool = False,
    ):
        super().__init__()
        if lr <= 0 or not 0 <= beta1 < 1:
            raise UserError(f"model.lr is {lr:g} and model.beta1 {beta1:g}: the first above 0, the second from 0 to 1")
        self.teacher, self.student = Teacher(teacher, teacher_weights).frozen(), student
        self.kind: Loss = loss
        self.lr, self.beta1, self.schedule, self.blur, self.frozen_norms = lr, beta1, schedule, blur, frozen_norms
        self.best: dict[str, Tensor] = {}
        self.least, self.stalled = float("inf"), 0
        self.held_out = MeanMetric()

    def losses(self, images: Tensor) -> Tensor:
        """Of each picture, [B]."""
        if self.blur:
            images = gaussian_blur(images, [KERNEL, KERNEL])
        with torch.no_grad():
            maps = self.teacher(images)
        given = self.student(images, maps)
        wanted = [maps[level] for level in self.student.levels]  # type: ignore[union-attr]
        return position_loss(given, wanted) if self.kind == "positions" else flat_loss(given, wanted)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(batch["image"])
        self.log("train/loss", losses.mean())
        return losses.sum() if self.kind == "positions" else losses.mean()

    def on_train_epoch_start(self) -> None:
        self.teacher.eval()
        self.student.train(not (self.frozen_norms and self.current_epoch > 0))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.held_out.update(self.losses(batch["image"]))

    def on_validation_epoch_end(self) -> None:
        loss = float(self.held_out.compute())
        self.held_out.reset()
        self.log("val/loss", loss)
        if loss < self.least:
            self.least, self.stalled = loss, 0
            self.best = {name: value.detach().cpu().clone() for name, value in self.student.state_dict().items()}
        else:
            self.stalled += 1
        if self.schedule == "plateau" and self.stalled >= 10:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.student.parameters(), self.lr, (self.beta1, 0.999))
        if self.schedule == "one_cycle":
            cycle = OneCycleLR(optimizer, self.lr, optimizer_steps(self.trainer))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss", "strict": False}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}
        checkpoint["best"] = {"state": self.best, "least": self.least, "stalled": self.stalled}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
        best = checkpoint["best"]
        self.best, self.least, self.stalled = best["state"], best["least"], best["stalled"]

    def exported(self) -> nn.Module:
        if self.best:
            self.student.load_state_dict(self.best)
        return self.student


if __name__ == "__main__":
    main(Distillation, FabricData, links=one_seed)
