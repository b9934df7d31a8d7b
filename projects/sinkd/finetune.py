"""Train a text classifier on labels: the teacher, and the student without one.

    python -m projects.sinkd.finetune fit --config projects/sinkd/configs/mini/teacher.yaml

Leaves the tokenizer in the run folder beside the weights: students and evaluations read both.
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassMatthewsCorrCoef
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from common.cli import main
from common.data.classified import Batch, TextData
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.training.schedules import optimizer_steps

Score = Literal["accuracy", "f1", "matthews"]


class Matthews(MulticlassMatthewsCorrCoef):
    """Matthews correlation, 0 for a constant answer as in scikit-learn, which GLUE is measured with.

    torchmetrics has up to 0.6 there on a few texts, and the best of all checkpoints is the one that is kept.
    """

    def compute(self) -> Tensor:
        texts = self.confmat.sum(1), self.confmat.sum(0)  # of each class, by label and by answer
        varied = all(int((count > 0).sum()) > 1 for count in texts)
        return super().compute() if varied else torch.zeros((), device=self.confmat.device)


def score_metric(score: Score, classes: int) -> Metric:
    """A task's own measure, of predicted and true class indices [B]."""
    if score == "matthews":
        return Matthews(classes)
    return BinaryF1Score() if score == "f1" else MulticlassAccuracy(classes, average="micro")


class Finetuning(L.LightningModule):
    """Cross-entropy with AdamW and a learning rate that falls linearly to zero.

    Args:
        net: the classifier that is trained.
        classes: number of classes; follows from the data.
        tokens: size of the vocabulary; follows from the data.
        score: what is measured on the validation set.
        keep: the weights that are handed on: those of the best validation score (the paper), or the last ones.
        lr: peak learning rate.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        net: ClassifierConfig,
        classes: int,
        tokens: int,
        score: Score = "accuracy",
        keep: Literal["best", "last"] = "last",
        lr: float = 5e-5,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        self.net = build_classifier(net, classes, tokens)
        self.keep, self.lr, self.weight_decay = keep, lr, weight_decay
        self.score = score_metric(score, classes)
        self.best = -float("inf")
        self.best_weights: dict[str, Tensor] | None = None

    def logits(self, batch: Batch) -> Tensor:
        """[B, C]"""
        return logits(self.net, batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.logits(batch), batch["labels"])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.score.update(self.logits(batch).argmax(-1), batch["labels"])

    def on_validation_epoch_end(self) -> None:
        score = self.score.compute().item()
        self.score.reset()
        self.log("val/score", score)
        if self.keep == "best" and score > self.best:
            self.best = score
            self.best_weights = {name: weight.cpu().clone() for name, weight in self.net.state_dict().items()}

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.net.parameters(), self.lr, eps=1e-8, weight_decay=self.weight_decay)
        steps = optimizer_steps(self.trainer)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"], checkpoint["best_weights"] = self.best, self.best_weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best, self.best_weights = checkpoint["best"], checkpoint["best_weights"]

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.trainer.datamodule.tokenizer.save_pretrained(self.run_dir / "tokenizer")

    def exported(self) -> PreTrainedModel:
        if self.best_weights is not None:
            self.net.load_state_dict(self.best_weights)
        return self.net


def links(parser: Any) -> None:
    """One seed; the sizes of head and vocabulary follow from the data."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")


if __name__ == "__main__":
    main(Finetuning, TextData, links=links)
