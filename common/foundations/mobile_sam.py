"""A small SAM with a distilled, smaller image encoder, cached: the foundation of recipes that start from MobileSAM.

    python -m common.foundations.mobile_sam fit --config common/foundations/configs/mini/mobile_sam.yaml

Decoupled distillation (Zhang et al. 2023, §3.2) of the foundation `sam` into a TinyViT; what is written has the keys of
`mobile_sam.pt`, which takes its place at paper scale.
"""

from typing import Any, cast

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main
from common.data.promptable import PromptableData
from common.evaluators.promptable import MeanMaskIoU
from common.models.sam import SamConfig, build_sam, predict_masks
from common.models.tiny_vit import TinyViT, TinyViTConfig
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.segmentation import KINDS, batch_prompts, best_mask
from common.training.weights import load_weights


class MobileSamTraining(L.LightningModule):
    """The student's embedding regresses the teacher's, L = mean over batch, channels and positions of
    (E_S(x) - E_T(x))^2; prompt encoder and mask decoder are copied from the teacher and stay as they are.

    Args:
        teacher: sizes of the foundation `sam`.
        student: sizes of the image encoder that takes its encoder's place.
        teacher_weights: that foundation's weights.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        teacher: SamConfig,
        student: TinyViTConfig,
        teacher_weights: str,
        lr: float = 8e-3,
        weight_decay: float = 5e-4,
        warmup_steps: int = 20,
    ):
        super().__init__()
        self.teacher = load_weights(build_sam(teacher), expand(teacher_weights, "model.teacher_weights"))
        self.teacher.requires_grad_(False).eval()
        self.student = build_sam(teacher, TinyViT(student))
        for name in ("prompt_encoder", "mask_decoder"):
            getattr(self.student, name).load_state_dict(getattr(self.teacher, name).state_dict())
            getattr(self.student, name).requires_grad_(False).eval()
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.iou = nn.ModuleDict({kind: MeanMaskIoU() for kind in KINDS})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with torch.no_grad():
            target = self.teacher.image_encoder(batch["image"])
        loss = F.mse_loss(self.student.image_encoder(batch["image"]), target)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        embeddings = self.student.image_encoder(batch["image"])
        for kind in KINDS:
            metric = cast(MeanMaskIoU, self.iou[kind])
            logits, iou = predict_masks(self.student, embeddings, batch_prompts(batch, kind), multimask=kind == "point")
            metric.update(best_mask(logits, iou) > 0, batch["masks"].flatten(0, 1))
            self.log(f"val/miou_{kind}", metric)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trained = self.student.image_encoder.parameters()
        return adamw(trained, self.lr, self.weight_decay, self.warmup_steps, optimizer_steps(self.trainer))

    def exported(self) -> nn.Module:
        return self.student


def links(parser: Any) -> None:
    """One image size for models and data, and masks at the decoder's resolution."""
    parser.link_arguments("data.image_size", "model.teacher.image_size")
    parser.link_arguments("data.image_size", "model.student.image_size")
    parser.link_arguments("model.teacher.patch_size", "data.mask_stride", compute_fn=lambda patch: patch // 4)


if __name__ == "__main__":
    main(MobileSamTraining, PromptableData, links=links)
