"""Distil a prompted teacher into a student with prompts and a projector, on pictures without labels: PromptKD.

    python -m projects.promptkd.distill fit --config projects/promptkd/configs/mini/distill.yaml \\
        --model.teacher FOLDER --model.teacher_prompts FILE --model.clip FOLDER
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main
from common.evaluators.zero_shot import ZeroShot
from common.models.clip import load_clip
from common.paths import expand
from common.training.weights import load_state
from projects.promptkd.data import DomainData, links
from projects.promptkd.losses import distillation_loss
from projects.promptkd.model import SENTENCE, PlainClip, PromptedClip, Student
from projects.promptkd.schedule import OFFICIAL, Epochs, sgd

Imitated = Literal["logits", "l1", "mse"]


class PromptDistillation(L.LightningModule):
    """L = weight T^2 sum KL(q_t || q_s) / (B N), q_t = e^t u_t W^T and q_s = e^s u_s W^T over the teacher's vectors W.

    Trained are the student's prompts and projector. Labels are never looked at.

    Args:
        clip: the student's CLIP, as `common.models.clip.load_clip` takes it.
        teacher: the teacher's.
        classes: names of all of the domain's classes, from the data.
        templates: sentences for them, from the data, where vectors come from a CLIP without prompts.
        teacher_prompts: what the stage of the teacher's prompts has left; None takes the CLIP as it is.
        sentence: what its prompts were learned in.
        own_text: class vectors are those of the student's own text tower, without prompts.
        imitated: what the student imitates: the teacher's probabilities, or its features in the L1 or squared distance.
        depth: blocks whose input has prompts of its own; 0 for none.
        count: prompts of a block.
        layers: of the projector.
        tower: train the student's image tower as well.
        weight: of the loss.
        temperature: T.
        optimiser: rate and schedule.
    """

    def __init__(
        self,
        clip: str,
        teacher: str,
        classes: list[str],
        templates: list[str],
        teacher_prompts: str | None = None,
        sentence: str = SENTENCE,
        own_text: bool = False,
        imitated: Imitated = "logits",
        depth: int = 9,
        count: int = 4,
        layers: int = 2,
        tower: bool = False,
        weight: float = 1000.0,
        temperature: float = 1.0,
        optimiser: Epochs = OFFICIAL,
    ):
        super().__init__()
        self.imitated, self.weight, self.temperature, self.optimiser = imitated, weight, temperature, optimiser
        self.teacher = load_teacher(teacher, teacher_prompts, sentence, templates)
        own = load_clip(clip)
        with torch.no_grad():
            self.register_buffer("vectors", self.teacher.class_vectors(classes), persistent=False)  # stored once
            stored = PlainClip(own, templates).class_vectors(classes) if own_text else self.vectors
        self.student = Student(own, stored, depth, count, layers, tower)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with torch.no_grad():
            taught = self.teacher.images(batch["image"])
        found = self.student.images(batch["image"])
        if self.imitated == "logits":
            target = self.teacher.clip.scale * taught @ self.vectors.T
            loss = distillation_loss(self.student.logits(found), target, self.weight, self.temperature)
        else:
            loss = self.weight * {"l1": F.l1_loss, "mse": F.mse_loss}[self.imitated](found, taught)
        self.log("train/loss", loss)
        return loss

    def on_train_epoch_start(self) -> None:
        self.teacher.eval()

    def on_validation_epoch_start(self) -> None:
        self.right = ZeroShot(self.student.vectors).to(self.device)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.right.update(self.student.images(batch["image"]), batch["label"])

    def on_validation_epoch_end(self) -> None:
        self.log("val/accuracy", self.right.compute())

    def configure_optimizers(self) -> Any:
        trained = [value for value in self.student.parameters() if value.requires_grad]
        return sgd(trained, self.optimiser, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Without the teacher, which has a file of its own."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"teacher.{key}": value for key, value in self.teacher.state_dict().items()}

    def exported(self) -> nn.Module:
        return self.student.learned()


def load_teacher(clip: str, prompts: str | None, sentence: str, templates: list[str]) -> PlainClip | PromptedClip:
    """A frozen teacher, with prompts from a file or as it is."""
    loaded = load_clip(clip)
    if prompts is None:
        return PlainClip(loaded, templates)
    file = expand(prompts, "the teacher's prompts")
    return PromptedClip.of(loaded, load_state(file), sentence)


if __name__ == "__main__":
    main(PromptDistillation, DomainData, links=links)
