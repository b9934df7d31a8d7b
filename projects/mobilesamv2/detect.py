"""Train the class-agnostic detector: with boxes and masks first, then with boxes alone.

python -m projects.mobilesamv2.detect fit --config projects/mobilesamv2/configs/mini/detector_masks.yaml
"""

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from common.cli import main
from common.evaluators.detection import AveragePrecision
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.weights import load_weights
from projects.mobilesamv2.data import DetectionData
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector


class DetectorTraining(L.LightningModule):
    """Object-aware prompt sampling, its first half (MobileSAMv2 §4.2).

    Both steps of the paper are trainings of this class: masks beside boxes (`data.instances` > 0), then boxes alone
    (0), from the first step's weights. The paper gives neither weights of the terms nor optimiser; all terms count one,
    as in FCOS and Mask R-CNN.

    Args:
        detector: its sizes.
        weights: a detector to start from; None for random weights.
        backbone_weights: a ResNet of torchvision's to start the backbone from; None for random weights.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
        most: boxes of a validation image that count.
    """

    def __init__(
        self,
        detector: DetectorConfig,
        weights: str | None = None,
        backbone_weights: str | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-4,
        warmup_steps: int = 20,
        most: int = 100,
    ):
        super().__init__()
        self.detector = ObjectDetector(detector)
        if weights is not None:
            load_weights(self.detector, expand(weights, "model.weights"))
        elif backbone_weights is not None:
            body = self.detector.fcos.backbone.body
            load_weights(body, expand(backbone_weights, "model.backbone_weights"), ignore=["fc.*"])
        self.lr, self.weight_decay, self.warmup_steps, self.most = lr, weight_decay, warmup_steps, most
        self.ap = AveragePrecision("bbox", most, class_agnostic=True)

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.trainer.datamodule.instances:
            self.detector.mask_head.requires_grad_(False)  # it rests in the second step

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        data = self.trainer.datamodule
        masks = batch["masks"] if data.instances else []
        terms = self.detector.losses(batch["image"], batch["boxes"], masks, batch["masked"], data.mask_stride)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Average precision of the boxes, over all confidences."""
        side = self.detector.config.image_size
        found = self.detector.detect(batch["image"], [(side, side)] * len(batch["image"]), 0.05, 0.6, self.most)
        labels = [torch.zeros(len(own.scores), dtype=torch.long, device=self.device) for own in found]
        self.ap.update(
            [{"boxes": own.boxes, "scores": own.scores, "labels": k} for own, k in zip(found, labels, strict=True)],
            [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.long, device=self.device)} for b in batch["boxes"]],
        )

    def on_validation_epoch_end(self) -> None:
        found = self.ap.compute()
        self.log_dict({"val/ap": found["ap"], "val/ap_50": found["ap_50"]})
        self.ap.reset()

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.detector.parameters() if parameter.requires_grad]
        return adamw(trained, self.lr, self.weight_decay, self.warmup_steps, optimizer_steps(self.trainer))

    def exported(self) -> nn.Module:
        return self.detector


def links(parser: Any) -> None:
    """One image size and one seed for model and data."""
    parser.link_arguments("data.image_size", "model.detector.image_size")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=lambda seed: int(seed))


if __name__ == "__main__":
    main(DetectorTraining, DetectionData, links=links)
