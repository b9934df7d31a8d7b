"""Train MobileSAM's student: decoupled (the paper's method), or one of the couplings it is compared with.

python -m projects.mobilesam.distill fit --config projects/mobilesam/configs/mini/distill.yaml
"""

from collections.abc import Iterator
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main
from common.data.promptable import PromptableData
from common.data.prompts import Prompts
from common.errors import UserError
from common.evaluators.promptable import MeanMaskIoU
from common.losses.segmentation import MaskLoss, sam_mask_loss
from common.models.sam import SamConfig, predict_masks
from common.models.tiny_vit import TinyViT, TinyViTConfig, layer_lr_scales
from common.training.schedules import adamw, optimizer_steps
from common.training.segmentation import KINDS, batch_prompts, best_mask
from projects.mobilesam.student import borrow_decoder, build_student, load_student
from projects.mobilesam.teacher import load_teacher

Coupling = Literal["decoupled", "semi_coupled", "coupled", "coupled_scratch", "decoder_finetuning", "joint_finetuning"]
TRAINED = {
    "decoupled": ("image_encoder",),
    "semi_coupled": ("image_encoder",),
    "coupled": ("image_encoder", "prompt_encoder", "mask_decoder"),
    "coupled_scratch": ("image_encoder", "prompt_encoder", "mask_decoder"),
    "decoder_finetuning": ("prompt_encoder", "mask_decoder"),
    "joint_finetuning": ("image_encoder", "prompt_encoder", "mask_decoder"),
}
"""The student's parts that each coupling trains; the others stay as they are, in evaluation mode."""


class Distillation(L.LightningModule):
    """A small image encoder for SAM's prompt encoder and mask decoder (Zhang et al. 2023, §3.2).

    - `decoupled`: the student's embedding regresses the teacher's, L = mean over batch, channels and positions of
      (E_S(x) - E_T(x))^2; prompt encoder and mask decoder are the teacher's and stay as they are. No mask is used.
    - `semi_coupled`: the same frozen decoder, but the encoder learns from the decoder's masks under random prompts.
    - `coupled`: the encoder starts anew, prompt encoder and mask decoder from the teacher's; all learn from the masks.
    - `coupled_scratch`: the same with all three from random weights.
    - `decoder_finetuning`: starts from a trained student; its encoder stays, the rest learns from the masks (§4.1).
    - `joint_finetuning`: the same, but the encoder learns too.

    A mask is the teacher's answer to the very prompt that the student is asked: what an evaluation compares it with.
    The paper does not state the reduction of the MSE; the mean is taken (AdamW's steps do not depend on a constant
    factor).

    Args:
        teacher: sizes of the teacher SAM.
        student: sizes of the student's image encoder.
        vit: sizes of a ViT that takes the TinyViT's place (Table 2).
        teacher_weights: the teacher: SAM's published checkpoint, or a foundation's weights. Needed but where a student
            is finetuned on masks of one's own.
        student_weights: a student to start from, as `mobile_sam.pt` or a stage's weights; finetuning needs one.
        coupling: what is trained, and through which loss.
        labels: the masks to learn from: the teacher's answers, or those of the data.
        live_teacher: run the teacher's encoder in the step instead of reading stored embeddings.
        lr: peak learning rate.
        weight_decay: of AdamW.
        layer_decay: factor on the learning rate per block of a TinyViT towards the input; 1 for none.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        teacher: SamConfig,
        student: TinyViTConfig,
        vit: SamConfig | None = None,
        teacher_weights: str | None = None,
        student_weights: str | None = None,
        coupling: Coupling = "decoupled",
        labels: Literal["teacher", "data"] = "teacher",
        live_teacher: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        layer_decay: float = 1.0,
        warmup_steps: int = 0,
    ):
        super().__init__()
        if student_weights is None and coupling.endswith("finetuning"):
            raise UserError(f"coupling {coupling} starts from a trained student: give --model.student_weights")
        if labels == "data" and coupling == "decoupled":
            raise UserError("coupling decoupled learns from embeddings: labels data goes with the other couplings")
        if teacher_weights is None and (labels == "teacher" or student_weights is None):
            raise UserError("no teacher: give --model.teacher_weights, or --model.student_weights with labels data")
        self.coupling, self.labels = coupling, labels
        self.lr, self.weight_decay, self.layer_decay, self.warmup_steps = lr, weight_decay, layer_decay, warmup_steps
        self.student = build_student(teacher, student, vit)
        if student_weights is not None:
            load_student(self.student, student_weights)
        elif coupling != "coupled_scratch" and teacher_weights is not None:
            borrow_decoder(self.student, teacher_weights)
        self.teacher = None
        if labels == "teacher" and teacher_weights is not None:
            self.teacher = load_teacher(teacher, teacher_weights, encoder=live_teacher)
        self.live_teacher = live_teacher

        for name, part in self.student.named_children():
            if name not in TRAINED[coupling]:
                part.requires_grad_(False).eval()
        self.iou = nn.ModuleDict({kind: MeanMaskIoU() for kind in KINDS})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        embedding = self.student.image_encoder(batch["image"])
        if self.coupling == "decoupled":
            loss = F.mse_loss(embedding, self._embedding(batch))
        else:
            terms = self._mask_loss(embedding, batch)
            self.log_dict({"train/focal": terms.focal, "train/dice": terms.dice, "train/iou": terms.iou})
            loss = terms.total
        self.log("train/loss", loss)
        return loss

    def _mask_loss(self, embedding: Tensor, batch: dict[str, Tensor]) -> MaskLoss:
        """SAM's loss for prompts of a randomly drawn kind, a single point being answered with three masks."""
        kind = KINDS[int(torch.randint(len(KINDS), ()))]
        prompts = batch_prompts(batch, kind)
        logits, iou = predict_masks(self.student, embedding, prompts, multimask=kind == "point")
        return sam_mask_loss(logits, iou, self._masks(batch, prompts, kind))

    @torch.no_grad()
    def _masks(self, batch: dict[str, Tensor], prompts: Prompts, kind: str) -> Tensor:
        """What the prompts should be answered with, bool [N, h, w]."""
        if self.teacher is None:
            return batch["masks"].flatten(0, 1)
        logits, iou = predict_masks(self.teacher, self._embedding(batch), prompts, multimask=kind == "point")
        return best_mask(logits, iou) > 0

    @torch.no_grad()
    def _embedding(self, batch: dict[str, Tensor]) -> Tensor:
        """The teacher's embedding [B, C, h, w]: stored, or computed here."""
        if "embedding" in batch:
            return batch["embedding"]
        if self.teacher is None or not self.live_teacher:
            raise UserError(
                "no teacher's embedding: give --data.embeddings and, for validation, --data.val_embeddings "
                "(folders that `embed` wrote), or --model.live_teacher true"
            )
        return self.teacher.image_encoder(batch["image"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """mIoU to the labels, for learning curves and tuning."""
        embeddings = self.student.image_encoder(batch["image"])
        for kind, metric in self.iou.items():
            prompts = batch_prompts(batch, kind)
            logits, iou = predict_masks(self.student, embeddings, prompts, multimask=kind == "point")
            metric.update(best_mask(logits, iou) > 0, self._masks(batch, prompts, kind))
            self.log(f"val/miou_{kind}", metric, batch_size=len(logits))

    def configure_optimizers(self) -> dict[str, Any]:
        steps = optimizer_steps(self.trainer)
        return adamw(list(self._groups()), self.lr, self.weight_decay, self.warmup_steps, steps)

    def _groups(self) -> Iterator[dict[str, Any]]:
        for name in TRAINED[self.coupling]:
            part = getattr(self.student, name)
            if isinstance(part, TinyViT):
                yield from layer_lr_scales(part, self.layer_decay)
            else:
                yield {"params": list(part.parameters())}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teacher is not None:  # it was loaded from its own file, and is not in the checkpoint
            checkpoint["state_dict"] |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}

    def exported(self) -> nn.Module:
        return self.student


def links(parser: Any) -> None:
    """One image size and one seed for model and data, and masks at the decoder's resolution."""
    parser.link_arguments("data.image_size", "model.teacher.image_size")
    parser.link_arguments("data.image_size", "model.student.image_size")
    parser.link_arguments("model.teacher.patch_size", "data.mask_stride", compute_fn=lambda patch: patch // 4)
    parser.link_arguments("seed_everything", "data.seed", compute_fn=lambda seed: int(seed))


if __name__ == "__main__":
    main(Distillation, PromptableData, links=links)
