"""Finetune a CLIP so that it tells captions from negatives near them and forgets little: DeGLA, and its rivals.

python -m projects.degla.finetune fit --config projects/degla/configs/mini/finetune.yaml --model.clip FOLDER
"""

import math
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from common.cli import main, one_seed
from common.models.clip import HIGHEST_SCALE, load_clip
from common.training.ema import Ema
from common.training.schedules import adamw, optimizer_steps
from projects.degla.data import CompositionData
from projects.degla.losses import (
    Embedded,
    Weights,
    global_contrast,
    image_grounded,
    intra_modal,
    ranking,
    self_distillation,
    text_grounded,
)
from projects.degla.model import decayed, embed, ids

BETAS, EPSILON = (0.9, 0.98), 1e-6
HIGHEST_GAP = 10.0  # of CE-CLIP's thresholds, in logits


class DeGLA(L.LightningModule):
    """L = L_base + 0.1 L_igc + 0.1 L_tgc + 0.005 L_dis; the teacher of the last two is a moving average of the student.

    Args:
        clip: what is finetuned, as `common.models.clip.load_clip` takes it.
        weights: of the losses; None has the paper's.
        ema: of the teacher, a step; 1 freezes it.
        tgc_scale: 1 / temperature of TGC.
        released_tgc: pair captions and negatives in TGC as the official code does by mistake (see losses.py).
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        clip: str,
        weights: Weights | None = None,
        ema: float = 0.9996,
        tgc_scale: PositiveFloat = 10.0,
        released_tgc: bool = False,
        lr: PositiveFloat = 1e-6,
        weight_decay: NonNegativeFloat = 0.1,
        warmup_steps: NonNegativeInt = 50,
    ):
        super().__init__()
        self.weights = weights = weights or Weights()
        self.tgc_scale, self.released_tgc = tgc_scale, released_tgc
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.clip = load_clip(clip)
        taught = weights.tgc > 0 or weights.distillation > 0
        self.teacher = Ema(self.clip, ema) if taught else None
        self.register_buffer("threshold", None)  # of the ranking, by negative: known after the first batch

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        image, texts = batch["image"], ids(self.clip, batch["texts"])
        found = embed(self.clip, image, texts).gathered()
        terms = self.terms(found, None if self.teacher is None else self.told(image, texts))
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(image))
        self.log("train/loss", loss, batch_size=len(image))
        return loss

    @torch.no_grad()
    def told(self, image: Tensor, texts: Tensor) -> Embedded:
        """What the teacher makes of a batch, those of all processes."""
        assert self.teacher is not None
        return embed(self.teacher.model, image, texts).gathered()

    def terms(self, found: Embedded, teacher: Embedded | None) -> dict[str, Tensor]:
        """The losses, each with its weight."""
        weights, scale = self.weights, self.clip.scale
        terms = {"base": global_contrast(found, scale)}
        if weights.igc:
            terms["igc"] = weights.igc * image_grounded(found, scale)
        if weights.tgc and teacher is not None:
            released = self.released_tgc
            terms["tgc"] = weights.tgc * text_grounded(found, teacher.text, self.tgc_scale, released)
        if weights.distillation and teacher is not None:
            terms["distillation"] = weights.distillation * self_distillation(found, teacher)
        if weights.ranking:
            if self.threshold is None:
                self.threshold = found.image.new_zeros(found.negatives.shape[1])
            value, gap = ranking(found, scale, self.threshold)
            terms["ranking"], self.threshold = weights.ranking * value, gap.clamp(0, HIGHEST_GAP)
        if weights.intra_modal:
            terms["intra_modal"] = weights.intra_modal * intra_modal(found, scale)
        return terms

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        groups = [{**group, "betas": BETAS, "eps": EPSILON} for group in decayed(self.clip, self.weight_decay)]
        return adamw(groups, self.lr, self.weight_decay, self.warmup_steps, optimizer_steps(self.trainer))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.clip.net.logit_scale.clamp_(0, math.log(HIGHEST_SCALE))
        if self.teacher is not None:
            self.teacher.update(self.clip)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "threshold" in checkpoint["state_dict"]:
            self.threshold = checkpoint["state_dict"]["threshold"].to(self.device)

    def exported(self) -> nn.Module:
        return self.clip.net


if __name__ == "__main__":
    main(DeGLA, CompositionData, links=one_seed)
