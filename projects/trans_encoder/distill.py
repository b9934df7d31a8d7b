"""One half of a cycle: a cross-encoder learns what bi-encoders say of unlabelled pairs, or the other way round.

    python -m projects.trans_encoder.distill fit --config projects/trans_encoder/configs/mini/cross.yaml \\
        --model.start PLM --model.teachers.own BI_ENCODER

Leaves the student in the run folder's `model/`, as transformers' `from_pretrained` reads it.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from common.cli import main, one_seed
from common.data.pairs import Pair
from common.errors import UserError
from common.training.schedules import optimizer_steps
from projects.trans_encoder.data import Batch, PairData
from projects.trans_encoder.model import (
    Kind,
    Pooling,
    cross_entropy,
    load_pair_model,
    score_pairs,
    squared_error,
)
from projects.trans_encoder.student import Keep, PairTraining, linear_adamw

Loss = Literal["bce", "mse"]


class Distillation(PairTraining):
    """Trans-Encoder's two distillations (Liu et al. 2022, §2), and the controls of each.

    - bi to cross: y_n is the cosine of a bi-encoder's two embeddings, as it is. A cross-encoder with logits x_n learns
      L_BCE = -1/N sum_n y_n log s(x_n) + (1 - y_n) log(1 - s(x_n)), s the sigmoid, from both orders of every pair.
    - cross to bi: z_n = s(x_n), of one order. A bi-encoder learns L_MSE = 1/N sum_n (cos(e(a_n), e(b_n)) - z_n)^2.

    With several teachers (mutual distillation) the label is the mean of theirs. Without any, the data set's own scores
    are the labels: the supervised ceiling.

    Args:
        student: what is trained.
        start: hub id or folder that the student starts from: a plain language model for a cross-encoder, SimCSE's for a
            bi-encoder; or the previous step's student, to continue its weights.
        teachers: hub ids or folders of the models that label the pairs, by any name; {} for the data set's scores.
        teacher: what the teachers are.
        pooling: of all bi-encoders.
        loss: "bce" of the sigmoid of a cross-encoder's output; "mse" of the output as it is: a bi-encoder's cosine, or
            a cross-encoder's logit (the paper's comparison, A.2).
        load: False lets a cross-encoder start from random weights.
        dropout: of the student; None for that of the model it starts from.
        keep: the weights that are handed on: those of the best validation score (the paper), or the last ones.
        lr: peak learning rate.
        weight_decay: of AdamW, biases and LayerNorms excepted.
        warmup: share of the steps with a growing learning rate; it then falls linearly to zero.
    """

    def __init__(
        self,
        student: Kind,
        start: str,
        teachers: dict[str, str],
        teacher: Kind,
        pooling: Pooling = "cls",
        loss: Loss = "bce",
        load: bool = True,
        dropout: float | None = None,
        keep: Keep = "best",
        lr: float = 2e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
    ):
        if student == "bi" and loss == "bce":
            raise UserError("a bi-encoder has a cosine, not a logit: --model.loss mse")
        super().__init__(load_pair_model(student, start, pooling, load, dropout), keep)
        self.teachers, self.teacher, self.pooling, self.loss = teachers, teacher, pooling, loss
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup

    def on_fit_start(self) -> None:
        labels = self.labels_of(self.pairs.pairs)
        self.labels = (labels.repeat(2) if self.pairs.both_orders else labels).to(self.device)

    def labels_of(self, pairs: list[Pair]) -> Tensor:
        """The labels of all pairs, [N]: constants, whatever the student does."""
        if not self.teachers:
            if any(pair.score is None for pair in pairs):
                raise UserError(
                    "no teachers, and training pairs without scores: give --model.teachers.<any name> <folder>"
                )
            return torch.tensor([pair.score for pair in pairs])
        labels = []
        for source in self.teachers.values():
            teacher = load_pair_model(self.teacher, source, self.pooling).to(self.device)
            labels.append(score_pairs(teacher, pairs))
        return mutual(labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        pairs, rows = batch
        labels = self.labels[rows]
        loss = (cross_entropy if self.loss == "bce" else squared_error)(self.student(pairs), labels)
        # a cosine below zero leaves the cross-entropy without a lower bound; it is used as it is, and counted
        self.log_dict({"train/loss": loss, "train/negative_labels": (labels < 0).float().mean()}, batch_size=len(pairs))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        steps = optimizer_steps(self.trainer)
        return linear_adamw(self.student, self.lr, self.weight_decay, math.ceil(self.warmup * steps), steps)


def mutual(labels: list[Tensor]) -> Tensor:
    """The mean of several models' scores of the same pairs: labels of mutual distillation, or an ensemble's scores."""
    return torch.stack(labels).mean(0)


if __name__ == "__main__":
    main(Distillation, PairData, links=one_seed)
