"""Make a bi-encoder of a language model without labels: SimCSE, the start point of every arm.

    python -m projects.trans_encoder.contrast fit --config projects/trans_encoder/configs/mini/contrast.yaml \\
        --model.start LANGUAGE_MODEL

At paper scale the start point is SimCSE's released checkpoint, and this script trains the arm "SimCSE for longer" only.
"""

from typing import Any, Literal

from torch import Tensor, nn

from common.cli import main, one_seed
from common.losses.contrastive import info_nce
from common.training.schedules import optimizer_steps
from projects.trans_encoder.data import Batch, PairData
from projects.trans_encoder.model import BiEncoder, Pooling
from projects.trans_encoder.student import Keep, PairTraining, linear_adamw


class SimCSE(PairTraining):
    """Unsupervised SimCSE (Gao et al. 2021): a sentence's two dropout masks agree, other sentences of the batch do not.

    A head (linear layer, tanh) stands between the pooled vector and the loss; it is trained and then left out.

    With `positives: pairs` a pair's two sentences are to agree instead: the paper's test whether the pairs themselves
    give away what is similar (A.2, Table 9).

    Args:
        start: hub id or folder of the language model.
        pooling: what stands for a sentence.
        temperature: of the softmax over the batch.
        lr: learning rate at the beginning; it falls linearly to zero.
        weight_decay: of AdamW.
        positives: what agrees: two dropout masks of a sentence, or the two sentences of a pair.
        keep: the weights that are handed on: those of the best validation score, or the last ones.
    """

    def __init__(
        self,
        start: str,
        pooling: Pooling = "cls",
        temperature: float = 0.05,
        lr: float = 3e-5,
        weight_decay: float = 0.0,
        positives: Literal["dropout", "pairs"] = "dropout",
        keep: Keep = "best",
    ):
        encoder = BiEncoder(start, pooling)
        super().__init__(encoder, keep)
        width = encoder.net.config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.embed = encoder.embed
        self.temperature, self.lr, self.weight_decay, self.positives = temperature, lr, weight_decay, positives

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        pairs, _ = batch
        anchors = [pair.a for pair in pairs]
        others = [pair.b for pair in pairs] if self.positives == "pairs" else anchors
        loss = info_nce(self.head(self.embed(anchors)), self.head(self.embed(others)), self.temperature)
        self.log("train/loss", loss, batch_size=len(pairs))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        return linear_adamw(self, self.lr, self.weight_decay, 0, optimizer_steps(self.trainer))


if __name__ == "__main__":
    main(SimCSE, PairData, links=one_seed)
