"""Train an emotion classifier, on synthetic data, on a gold set, or on one after the other.

    python -m projects.emo_pillars.train fit --config projects/emo_pillars/configs/mini/contextless.yaml

Leaves net, tokenizer and the classes' names in the run folder's `model/` too, as transformers' `from_pretrained` and
`pipeline("text-classification")` read them.
"""

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from common.cli import main
from common.data.classified import Batch, TextData
from common.models.text_classifier import ClassifierConfig, build_classifier, head_loss, logits
from common.paths import expand
from common.training.schedules import optimizer_steps
from common.training.weights import load_weights
from projects.emo_pillars.metrics import macro_f1


class EmotionClassifier(L.LightningModule):
    """L = mean over batch and classes of the binary cross-entropy with the labels (Shvets 2025, section 4).

    The distillation is in the data: no logits, no temperature, no KL. Labels are levels of at least 0.3 as ones, or,
    where the data have no cut, the levels themselves. The last weights are kept, as in the paper.

    Args:
        net: the classifier; with two token types it tells context and utterance apart.
        classes: number of classes; follows from the data.
        tokens: size of the vocabulary; follows from the data.
        weights: begin with these, of a classifier with the same classes; none begins with the pretrained encoder.
        lr: AdamW's peak learning rate; it falls to zero in a line.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        net: ClassifierConfig,
        classes: int,
        tokens: int,
        weights: str | None = None,
        lr: float = 2e-5,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        self.net = build_classifier(net, classes, tokens, load=weights is None)
        if weights is not None:
            load_weights(self.net, expand(weights, "model.weights"))
        self.lr, self.weight_decay = lr, weight_decay
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = head_loss(logits(self.net, batch), batch["labels"])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        found = logits(self.net, batch)
        self.log("val/loss", head_loss(found, batch["labels"]), batch_size=len(found), sync_dist=True)
        self.seen.append((found.sigmoid().cpu(), batch["labels"].cpu()))

    def on_validation_epoch_end(self) -> None:
        scores, labels = (torch.cat(part) for part in zip(*self.seen, strict=True))
        self.seen.clear()
        self.log("val/macro_f1", macro_f1(scores >= 0.5, labels >= 0.5), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.net.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, optimizer_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            data = self.trainer.datamodule
            self.net.config.id2label = dict(enumerate(data.task.classes))
            self.net.config.label2id = {name: k for k, name in enumerate(data.task.classes)}
            self.net.config.problem_type = "multi_label_classification"
            for part in (self.net, data.tokenizer):
                part.save_pretrained(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.net


def links(parser: Any) -> None:
    """One seed; the sizes of head and vocabulary follow from the data."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")


if __name__ == "__main__":
    main(EmotionClassifier, TextData, links=links)
