"""A small image classifier whose tokens also know their own places, trained once on a world and cached.

python -m common.foundations.local_classifier fit --config common/foundations/configs/mini/shape_vit.yaml
"""

from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.images import PictureData
from common.foundations.classifier import Classification
from common.models.classifiers import SiglipClassifier
from common.training.schedules import adamw, optimizer_steps


class LocalClassification(Classification):
    """Cross-entropy over the classes, and the squared error of a linear reading of each patch's mean colour.

    A classifier's last tokens forget what they stand on. SigLIP 2's do not: it learns from captions of regions, by
    distillation from whole pictures to parts, and by masked prediction. Mean colours stand in for these at small cost.

    Args:
        vision: settings of the tower, as SiglipClassifier takes them.
        classes: number of classes.
        colour_weight: of the patches' mean colours.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    net: SiglipClassifier

    def __init__(
        self,
        vision: dict[str, Any],
        classes: int,
        colour_weight: float = 20.0,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ):
        super().__init__(SiglipClassifier(vision, classes), lr=lr, weight_decay=weight_decay, warmup_steps=warmup_steps)
        self.colour_weight = colour_weight
        self.colours = nn.Linear(vision["hidden_size"], 3)
        self.patch = vision["patch_size"]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images = batch["image"]
        classifier = self.net.model
        tokens = classifier.vision_model((images - self.mean) / self.std).last_hidden_state
        means = F.avg_pool2d(images, self.patch).flatten(2).transpose(1, 2)  # [B, N, 3], in the order of the tokens
        terms = {
            "classes": F.cross_entropy(classifier.classifier(tokens.mean(1)), batch["label"]),
            "colours": self.colour_weight * F.mse_loss(self.colours(tokens), means),
        }
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()} | {"train/loss": loss})
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)


if __name__ == "__main__":
    main(LocalClassification, PictureData, links=one_seed)
