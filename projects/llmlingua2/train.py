"""Train the compressor: a pretrained encoder that tells of every token whether it stays (section 4.1).

    python -m projects.llmlingua2.train fit --config projects/llmlingua2/configs/mini/base.yaml \\
        --config projects/llmlingua2/configs/mini/train.yaml --model.encoder FOLDER --data.tokenizer FOLDER

Leaves net and tokenizer in the run folder's `model/`, as `PromptCompressor` and the authors' package read them.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import BinaryAccuracy
from transformers import AutoModelForTokenClassification, PreTrainedModel

from common.charts import histogram, side_by_side
from common.cli import main, one_seed
from common.hub import from_pretrained
from common.training.runs import save_picture
from projects.llmlingua2.data import IGNORED, Batch, LabelledData


class CompressorTraining(L.LightningModule):
    """Cross-entropy of the two classes over the tokens that have a label, by Adam at a fixed learning rate.

    The weights of the epoch with the best accuracy on the held-out chunks are handed on. The released trainer clips
    gradients before it computes them, which does nothing; here nothing is clipped.

    Args:
        encoder: hub id or folder of the pretrained encoder; a new layer of two classes comes on top.
        lr: learning rate.
    """

    run_dir: Path

    def __init__(self, encoder: str, lr: float = 1e-5):
        super().__init__()
        self.net = from_pretrained(AutoModelForTokenClassification, encoder, num_labels=2, dtype=torch.float32)
        self.lr = lr
        self.accuracy = BinaryAccuracy(ignore_index=IGNORED)
        self.best = -1.0
        self.best_weights: dict[str, Tensor] | None = None

    def logits(self, batch: Batch) -> Tensor:
        """[B, N, 2]: drop, keep."""
        return self.net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.logits(batch).flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)
        self.log("train/loss", loss, batch_size=len(batch["labels"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.accuracy.update(self.logits(batch).argmax(-1), batch["labels"])

    def on_validation_epoch_end(self) -> None:
        accuracy = self.accuracy.compute().item()
        self.accuracy.reset()
        self.log("val/accuracy", accuracy)
        if accuracy > self.best:
            self.best = accuracy
            self.best_weights = {name: value.cpu().clone() for name, value in self.net.state_dict().items()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), self.lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"], checkpoint["best_weights"] = self.best, self.best_weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best, self.best_weights = checkpoint["best"], checkpoint["best_weights"]

    def on_train_end(self) -> None:
        if self.best_weights is not None:
            self.net.load_state_dict(self.best_weights)
        if not self.trainer.is_global_zero:
            return
        data: LabelledData = self.trainer.datamodule  # type: ignore[attr-defined]
        self.net.save_pretrained(self.run_dir / "model")
        data.tokenizer.save_pretrained(self.run_dir / "model")
        rates = {name: torch.tensor([getattr(q, name) for q in data.quality]).numpy() for name in ("variation", "gap")}
        panels = [
            histogram(values, title, bins=30)
            for values, title in zip(rates.values(), ("variation rate", "alignment gap"), strict=True)
        ]
        caption = f"Quality of the teacher's compressions, chunk by chunk; {data.passed:.0%} of them pass the control"
        save_picture(self.run_dir, "quality control", side_by_side(*panels), caption)

    def exported(self) -> PreTrainedModel:
        return self.net


if __name__ == "__main__":
    main(CompressorTraining, LabelledData, links=one_seed)
