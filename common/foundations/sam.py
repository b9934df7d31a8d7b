"""A small SAM, trained once on a world and cached: the foundation of recipes that start from SAM.

    python -m common.foundations.sam fit --config common/foundations/configs/mini/sam.yaml

Encoder, prompt encoder and mask decoder are `segment_anything`'s classes. At paper scale the foundation is the
published checkpoint, and this script is not run.
"""

from typing import Any, cast

import lightning.pytorch as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from common.cli import main
from common.data.promptable import PromptableData
from common.evaluators.promptable import MeanMaskIoU
from common.models.sam import SamConfig, at_resolution, build_sam, predict_masks
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.segmentation import KINDS, batch_prompts, best_mask, mask_step
from common.training.weights import load_state, load_weights


class SamTraining(L.LightningModule):
    """SAM trained end to end through its masks (Kirillov et al. 2023, appendix A), in a single round of prompts.

    Args:
        sam: sizes of the model.
        start: weights to start from, of a foundation of the same sizes at any resolution; None for random ones.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        sam: SamConfig,
        start: str | None = None,
        lr: float = 8e-4,
        weight_decay: float = 0.1,
        warmup_steps: int = 250,
    ):
        super().__init__()
        self.sam = build_sam(sam)
        if start is not None:
            load_weights(self.sam, at_resolution(load_state(expand(start, "model.start")), self.sam))
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.iou = nn.ModuleDict({kind: MeanMaskIoU() for kind in KINDS})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = mask_step(self.sam, self.sam.image_encoder(batch["image"]), batch)
        self.log_dict(
            {"train/loss": loss.total, "train/focal": loss.focal, "train/dice": loss.dice, "train/iou": loss.iou}
        )
        return loss.total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        embeddings = self.sam.image_encoder(batch["image"])
        for kind in KINDS:
            metric = cast(MeanMaskIoU, self.iou[kind])
            logits, iou = predict_masks(self.sam, embeddings, batch_prompts(batch, kind), multimask=kind == "point")
            metric.update(best_mask(logits, iou) > 0, batch["masks"].flatten(0, 1))
            self.log(f"val/miou_{kind}", metric)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw(
            self.sam.parameters(),
            self.lr,
            self.weight_decay,
            self.warmup_steps,
            optimizer_steps(self.trainer),
        )

    def exported(self) -> nn.Module:
        return self.sam


def links(parser: Any) -> None:
    """One image size for model and data, and masks at the decoder's resolution."""
    parser.link_arguments("data.image_size", "model.sam.image_size")
    parser.link_arguments("model.sam.patch_size", "data.mask_stride", compute_fn=lambda patch: patch // 4)


if __name__ == "__main__":
    main(SamTraining, PromptableData, links=links)
