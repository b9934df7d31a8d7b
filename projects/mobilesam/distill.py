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
from common.errors import UserError
from common.evaluators.promptable import MeanMaskIoU
from common.models.sam import SamConfig, build_sam, predict_masks
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.segmentation import KINDS, batch_prompts, best_mask, mask_step
from common.training.weights import load_state, load_weights
from projects.mobilesam.tiny_vit import TinyViT, TinyViTConfig, layer_lr_scales

Coupling = Literal["decoupled", "semi_coupled", "coupled", "decoder_finetuning"]


class Distillation(L.LightningModule):
    """A small image encoder for SAM's prompt encoder and mask decoder (Zhang et al. 2023, §3.2).

    - `decoupled`: the student's embedding regresses the teacher's, L = mean over batch, channels and positions of
      (E_S(x) - E_T(x))^2; prompt encoder and mask decoder are the teacher's and stay as they are. No mask is used.
    - `semi_coupled`: the same frozen decoder, but the encoder learns from the decoder's masks under random prompts.
    - `coupled`: encoder, prompt encoder and mask decoder all start from random weights and learn from the masks.
    - `decoder_finetuning`: starts from a decoupled student; its encoder stays, the rest learns from the masks.

    The masks are the teacher's. The paper does not state the reduction of the MSE; the mean is taken (AdamW's steps do
    not depend on a constant factor).

    Args:
        teacher: sizes of the teacher SAM.
        teacher_weights: the teacher: SAM's published checkpoint, or a foundation's weights.
        student: sizes of the student's image encoder.
        student_weights: a student to start from (`decoder_finetuning` needs one), in the format of `mobile_sam.pt`.
        coupling: what is trained, and through which loss.
        live_teacher: run the teacher's encoder in the training step instead of reading stored embeddings.
        lr: peak learning rate.
        weight_decay: of AdamW.
        layer_decay: factor on the learning rate per encoder block towards the input; 1 for none.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        teacher: SamConfig,
        teacher_weights: str,
        student: TinyViTConfig,
        student_weights: str | None = None,
        coupling: Coupling = "decoupled",
        live_teacher: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        layer_decay: float = 1.0,
        warmup_steps: int = 0,
    ):
        super().__init__()
        self.coupling = coupling
        self.lr, self.weight_decay, self.layer_decay, self.warmup_steps = lr, weight_decay, layer_decay, warmup_steps
        self.student = build_sam(teacher, image_encoder=TinyViT(student))
        state = load_state(expand(teacher_weights, "model.teacher_weights"))
        if coupling != "coupled":
            load_weights(self.student.prompt_encoder, state, prefix="prompt_encoder.")
            load_weights(self.student.mask_decoder, state, prefix="mask_decoder.")
        if student_weights is not None:
            load_weights(self.student, expand(student_weights, "model.student_weights"))
        elif coupling == "decoder_finetuning":
            raise UserError("coupling decoder_finetuning starts from a trained student: give --model.student_weights")
        self.teacher_encoder: nn.Module | None = None
        if live_teacher:
            self.teacher_encoder = load_weights(build_sam(teacher).image_encoder, state, prefix="image_encoder.")
            self.teacher_encoder.requires_grad_(False).eval()

        decoder = [self.student.prompt_encoder, self.student.mask_decoder]
        frozen = {"decoupled": decoder, "semi_coupled": decoder, "decoder_finetuning": [self.student.image_encoder]}
        for module in frozen.get(coupling, []):
            module.requires_grad_(False).eval()
        self.iou = nn.ModuleDict({kind: MeanMaskIoU() for kind in KINDS})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        embedding = self.student.image_encoder(batch["image"])
        if self.coupling == "decoupled":
            loss = F.mse_loss(embedding, self._target(batch))
        else:
            terms = mask_step(self.student, embedding, batch)
            self.log_dict({"train/focal": terms.focal, "train/dice": terms.dice, "train/iou": terms.iou})
            loss = terms.total
        self.log("train/loss", loss)
        return loss

    def _target(self, batch: dict[str, Tensor]) -> Tensor:
        """The teacher's embedding [B, C, h, w]: stored, or computed here."""
        if "embedding" in batch:
            return batch["embedding"]
        if self.teacher_encoder is None:
            raise UserError(
                "no teacher to regress: give --data.embeddings (a folder of stored embeddings) "
                "or --model.live_teacher true"
            )
        with torch.no_grad():
            return self.teacher_encoder(batch["image"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """mIoU to the teacher's masks, for learning curves."""
        embeddings = self.student.image_encoder(batch["image"])
        for kind, metric in self.iou.items():
            logits, iou = predict_masks(self.student, embeddings, batch_prompts(batch, kind), multimask=kind == "point")
            metric.update(best_mask(logits, iou) > 0, batch["masks"].flatten(0, 1))
            self.log(f"val/miou_{kind}", metric, batch_size=len(logits))

    def configure_optimizers(self) -> dict[str, Any]:
        steps = optimizer_steps(self.trainer)
        return adamw(list(self._groups()), self.lr, self.weight_decay, self.warmup_steps, steps)

    def _groups(self) -> Iterator[dict[str, Any]]:
        if self.coupling != "decoder_finetuning":
            yield from layer_lr_scales(self.student.image_encoder, self.layer_decay)
        if self.coupling in ("coupled", "decoder_finetuning"):
            yield {"params": [*self.student.prompt_encoder.parameters(), *self.student.mask_decoder.parameters()]}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher_encoder.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teacher_encoder is not None:  # it was loaded from its own file, and is not in the checkpoint
            own = {f"teacher_encoder.{k}": v for k, v in self.teacher_encoder.state_dict().items()}
            checkpoint["state_dict"] |= own

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
