"""Distil the cross-encoder's scores in the searched domain into a dual encoder: baselines DE_BASE+CE and DE_BERT+CE.

    python -m projects.anncur.distill fit --config projects/anncur/configs/mini/distill_match.yaml

It learns from the same rows of scores that ANNCUR builds its index from: nine tenths of the anchor queries are for
training, the others choose the checkpoint.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.cli import main
from common.errors import UserError
from common.losses.distillation import soft_cross_entropy
from common.paths import expand
from projects.anncur.data import LinkingData, dev_split, ordered
from projects.anncur.encoders import BertSizes, DualEncoder, all_scores
from projects.anncur.ranker import Ranker, positive_first
from projects.anncur.released import check_matrix, load_encoder, open_scores


class AnchorData(LinkingData):
    """The anchor queries of the searched domain: a tenth validates, the others train.

    The m-th sample of the q-th anchor query has the number q * per_query + m.

    Args:
        per_query: samples of a query.
        kwargs: see `LinkingData`.
    """

    def __init__(self, per_query: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_query = per_query

    def _samples(self, held_out: bool) -> np.ndarray:
        queries = dev_split(self.anchor_queries, self.seed)[held_out]
        return (queries[:, None] * self.per_query + np.arange(self.per_query)).ravel()

    def train_dataloader(self) -> DataLoader:
        return self.shuffled(self._samples(held_out=False))

    def val_dataloader(self) -> DataLoader:
        return ordered(self._samples(held_out=True), self.batch_size)


class Distillation(Ranker):
    """A dual encoder learns a cross-encoder's ranking of items.

    For each anchor query the n items that the cross-encoder f scores highest are its targets.

    - `match`: cross entropy over these n items, the dual encoder's softmax against that of f.
    - `triplet`: the m-th of the n, beside the m-th of the other items in the dual encoder's own order, which is renewed
      at each epoch. Cross entropy over the two scores.

    Args:
        encoder: BERT of both towers.
        scores: matrix of f over the searched domain, as `score.py` or the official code writes it.
        dual_encoder_weights: the dual encoder to start from (DE_BASE); None for the BERT itself.
        loss: see above.
        top: n; the paper has 100.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup: share of the schedule's steps that warm up.
        train_embeddings: train BERT's word embeddings too.
        schedule_steps: see `Ranker`.
    """

    net: DualEncoder
    hard: Tensor
    first: Tensor
    mined: Tensor

    def __init__(
        self,
        encoder: BertSizes,
        scores: str,
        dual_encoder_weights: str | None = None,
        loss: Literal["match", "triplet"] = "match",
        top: int = 100,
        lr: float = 1e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.0,
        train_embeddings: bool = False,
        schedule_steps: int | None = None,
    ):
        net = DualEncoder(encoder, load=dual_encoder_weights is None)
        if dual_encoder_weights is not None:
            load_encoder(net, expand(dual_encoder_weights, "model.dual_encoder_weights"))
        super().__init__(net, lr, weight_decay, warmup, train_embeddings, schedule_steps)
        self.matrix, self.loss, self.top = open_scores(expand(scores, "model.scores")), loss, top
        for negatives in ("hard", "first"):  # of this epoch; of the first one, by which checkpoints are compared
            self.register_buffer(negatives, torch.empty(0, top, dtype=torch.long))
        self.register_buffer("mined", torch.tensor(-1))

    def setup(self, stage: str) -> None:
        data: AnchorData = self.trainer.datamodule
        anchors = data.anchors_and_tests()[0]
        self.queries, self.all_items = data.search.queries[anchors], data.search.items
        if 2 * self.top > len(self.all_items):
            raise UserError(
                f"{self.top} targets and as many negatives of {len(self.all_items)} items: lower --model.top"
            )
        check_matrix(self.matrix, data.search.queries, self.all_items, "model.scores")
        rows = torch.from_numpy(np.stack([self.matrix[i] for i in anchors]))
        self.targets, self.items = rows.topk(self.top)  # [k_q, n]
        self.hard, self.first = (self.hard.new_zeros(self.items.shape) for _ in range(2))

    def on_train_epoch_start(self) -> None:
        if self.loss == "triplet" and self.mined != self.current_epoch:  # a resumed epoch keeps its negatives
            self.hard.copy_(hard_negatives(self.net, self.queries, self.all_items, self.items))
            if self.mined < 0:
                self.first.copy_(self.hard)
            self.mined.fill_(self.current_epoch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self._loss(batch.cpu(), self.hard)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.dev.update(self._loss(batch.cpu(), self.first), len(batch))

    def _loss(self, samples: Tensor, hard: Tensor) -> Tensor:
        if self.loss == "match":
            return match_loss(self._scores(samples, self.items[samples]), self.targets[samples].to(self.device))
        query, rank = samples // self.top, samples % self.top
        pairs = torch.stack([self.items[query, rank], hard.cpu()[query, rank]], 1)
        return positive_first(self._scores(query, pairs))

    def _scores(self, queries: Tensor, items: Tensor) -> Tensor:
        """The q-th anchor queries [B] and items [B, n] -> [B, n]."""
        return self.net(self.queries[queries].to(self.device), self.all_items[items].to(self.device))


def match_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Soft cross entropy over the same items, the dual encoder's scores and f's both [B, n]; mean over the queries."""
    return soft_cross_entropy(scores, targets)


@torch.no_grad()
def hard_negatives(net: DualEncoder, queries: Tensor, items: Tensor, positives: Tensor) -> Tensor:
    """For each query as many items as it has positives, those that `net` scores highest of all others: [Q, n]."""
    training = net.training
    net.eval()
    scores = all_scores(net.embed_all("query", queries), net.embed_all("item", items))
    net.train(training)
    scores.scatter_(1, positives.to(scores.device), -torch.inf)
    return scores.topk(positives.shape[1]).indices


def links(parser: Any) -> None:
    """One seed, and a sample per triplet."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments(
        ("model.loss", "model.top"), "data.per_query", compute_fn=lambda loss, top: top if loss == "triplet" else 1
    )


if __name__ == "__main__":
    main(Distillation, AnchorData, links=links)
