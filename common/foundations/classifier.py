"""A small image classifier, trained once on a world and cached: encoder, perceptual metric or judge of other recipes.

python -m common.foundations.classifier fit --config common/foundations/configs/mini/shape_vgg.yaml
"""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.images import PictureData
from common.training.schedules import adamw, optimizer_steps


class Classification(L.LightningModule):
    """Cross-entropy over the classes of labelled pictures.

    Args:
        net: pictures [B, 3, S, S], normalised -> logits [B, classes].
        mean: of each channel, which the net's input is normalised with.
        std: likewise.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ):
        super().__init__()
        self.net = net
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> logits."""
        return self.net((images - self.mean) / self.std)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch["image"]), batch["label"])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        correct = (self(batch["image"]).argmax(1) == batch["label"]).float()
        self.log("val/accuracy", correct.mean(), batch_size=len(correct), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def exported(self) -> nn.Module:
        return self.net


if __name__ == "__main__":
    main(Classification, PictureData, links=one_seed)
