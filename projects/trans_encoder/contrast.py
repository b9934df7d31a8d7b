"""Make a bi-encoder of a language model without labels: SimCSE, the start point of every arm.

    python -m projects.trans_encoder.contrast fit --config projects/trans_encoder/configs/mini/contrast.yaml \\
        --model.start LANGUAGE_MODEL

At paper scale the start point is SimCSE's released checkpoint, and this script trains the arm "SimCSE for longer" only.
"""

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from common.cli import main, one_seed
from common.losses.contrastive import info_nce
from common.training.schedules import optimizer_steps
from projects.trans_encoder.data import Batch, PairData, agreement
from projects.trans_encoder.distill import linear_adamw
from projects.trans_encoder.model import BiEncoder, Pooling


class SimCSE(L.LightningModule):
    """Unsupervised SimCSE (Gao et al. 2021): a sentence's two dropout masks agree, other sentences of the batch do not.

    A head (linear layer, tanh) stands between the pooled vector and the loss; it is trained and then left out.

    Args:
        start: hub id or folder of the language model.
        pooling: what stands for a sentence.
        temperature: of the softmax over the batch.
        lr: learning rate at the beginning; it falls linearly to zero.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        start: str,
        pooling: Pooling = "cls",
        temperature: float = 0.05,
        lr: float = 3e-5,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        self.student = BiEncoder(start, pooling)
        width = self.student.net.config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.temperature, self.lr, self.weight_decay = temperature, lr, weight_decay

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sentences = [pair.a for pair in batch[0]]
        first, second = (self.head(self.student.embed(sentences)) for _ in range(2))
        loss = info_nce(first, second, self.temperature)
        self.log("train/loss", loss, batch_size=len(sentences))
        return loss

    def on_fit_start(self) -> None:
        self.agreement = agreement(self.trainer.datamodule.binary).to(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pairs, _ = batch
        self.agreement.update(
            self.student.score(pairs), torch.tensor([pair.score for pair in pairs], device=self.device)
        )

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", self.agreement.compute())
        self.agreement.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        return linear_adamw(self, self.lr, self.weight_decay, 0, optimizer_steps(self.trainer))

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.student.save(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.student.net


if __name__ == "__main__":
    main(SimCSE, PairData, links=one_seed)
