"""Train a cross-encoder or the dual encoder to find the right entity among hard ones.

python -m projects.anncur.train fit --config projects/anncur/configs/mini/emb_cross_encoder.yaml
"""

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from projects.anncur.data import LinkingData
from projects.anncur.encoders import BertSizes, DualEncoder, Kind, all_scores, build
from projects.anncur.linking import Corpus
from projects.anncur.ranker import Ranker, positive_first
from projects.anncur.released import load_encoder

SCORES = 1 << 26  # scores that exist at the same time while negatives are mined


class EntityLinker(Ranker):
    """Cross entropy over one positive and n negatives: the loss of the paper's cross-encoders and of DE_BASE.

    Hard negatives are the entities of the same domain that a dual encoder prefers. A dual encoder mines its own, anew
    at each epoch (random ones in the first); a cross-encoder takes those of the trained dual encoder.

    Args:
        kind: "emb" and "cls" are cross-encoders, "dual" the dual encoder.
        encoder: its BERT.
        negatives: n; the paper has 63.
        hard: how many of them are hard, all in the paper; the others are random.
        dual_encoder_weights: weights of the dual encoder that mines for a cross-encoder; its towers are such BERTs.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup: share of the schedule's steps that warm up.
        train_embeddings: train BERT's word embeddings and pooler too.
        schedule_steps: see `Ranker`.
    """

    hard: Tensor
    mined: Tensor

    def __init__(
        self,
        kind: Kind,
        encoder: BertSizes,
        negatives: int = 63,
        hard: int = 63,
        dual_encoder_weights: str | None = None,
        lr: float = 1e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.01,
        train_embeddings: bool = False,
        schedule_steps: int | None = None,
    ):
        super().__init__(build(kind, encoder), lr, weight_decay, warmup, train_embeddings, schedule_steps)
        self.kind, self.negatives, self.hard_count = kind, negatives, hard
        self.miner: list[DualEncoder] = []  # in a list: it is no part of this module's weights
        if kind != "dual":
            if dual_encoder_weights is None:
                raise UserError("a cross-encoder needs a dual encoder that mines: --model.dual_encoder_weights")
            miner = DualEncoder(encoder, load=False)
            load_encoder(miner, expand(dual_encoder_weights, "model.dual_encoder_weights"))
            self.miner = [miner.requires_grad_(False).eval()]
        self.register_buffer("hard", torch.empty(0, hard, dtype=torch.long))
        self.register_buffer("mined", torch.tensor(-1))
        self.mrr = MeanMetric()

    def setup(self, stage: str) -> None:
        self.corpus: Corpus = self.trainer.datamodule.train
        self.hard = self.hard.new_zeros(len(self.corpus.queries), self.hard_count)

    def on_train_epoch_start(self) -> None:
        if self.mined == self.current_epoch or (self.miner and self.mined >= 0):
            return  # a resumed epoch keeps its negatives, a cross-encoder all of them
        miner = self.miner[0].to(self.device) if self.miner else self.net
        random = not self.miner and self.current_epoch == 0
        self.hard.copy_(
            random_negatives(self.corpus, self.hard_count) if random else mine(miner, self.corpus, self.hard_count)
        )
        self.mined.fill_(self.current_epoch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        easy = random_negatives(self.corpus, self.negatives - self.hard_count, batch.cpu())
        negatives = torch.cat([self.hard[batch].cpu(), easy], 1)
        loss = positive_first(self._scores(self.corpus, batch.cpu(), negatives))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Dev loss and mean reciprocal rank among hard negatives, which are mined once."""
        corpus: Corpus = self.trainer.datamodule.val
        scores = self._scores(corpus, batch.cpu(), self.val_negatives[batch.cpu()])
        self.dev.update(positive_first(scores), len(batch))
        self.mrr.update(1 / (1 + (scores[:, 1:] >= scores[:, :1]).sum(1)))
        self.log("val/mrr", self.mrr, batch_size=len(batch))

    def on_validation_epoch_start(self) -> None:
        corpus: Corpus = self.trainer.datamodule.val
        if self.miner:
            if not hasattr(self, "val_negatives"):
                self.val_negatives = mine(self.miner[0].to(self.device), corpus, self.negatives)
        else:  # for the dual encoder random ones: its own would change beneath the comparison
            generator = torch.Generator().manual_seed(0)
            self.val_negatives = random_negatives(corpus, self.negatives, generator=generator)

    def _scores(self, corpus: Corpus, queries: Tensor, negatives: Tensor) -> Tensor:
        """Scores of the right item and of the negatives, [B, 1 + n]; the right one first."""
        items = torch.cat([corpus.gold[queries][:, None], negatives], 1)
        return self.net(corpus.queries[queries].to(self.device), corpus.items[items].to(self.device))


def random_negatives(
    corpus: Corpus, count: int, queries: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Items of each query's domain other than the right one, [Q, count], with replacement."""
    gold, ranges = (corpus.gold, corpus.ranges) if queries is None else (corpus.gold[queries], corpus.ranges[queries])
    first, size = ranges[:, :1], ranges[:, 1:]
    away = 1 + (torch.rand(len(gold), count, generator=generator) * (size - 1)).long()
    return first + (gold[:, None] - first + away) % size


@torch.no_grad()
def mine(miner: DualEncoder, corpus: Corpus, count: int) -> Tensor:
    """The items of each query's domain that `miner` prefers, without the right one: [Q, count], best first.

    Raises:
        UserError: a domain with too few items.
    """
    training = miner.training
    miner.eval()
    queries, items = miner.embed_all("query", corpus.queries), miner.embed_all("item", corpus.items)
    miner.train(training)
    found = torch.empty(len(queries), count, dtype=torch.long)
    for first, size in torch.unique(corpus.ranges, dim=0).tolist():
        if size <= count:
            raise UserError(f"{count} hard negatives do not exist in a domain of {size} entities: lower --model.hard")
        rows = torch.nonzero(corpus.ranges[:, 0] == first)[:, 0]
        for part in rows.split(max(1, SCORES // size)):
            scores = all_scores(queries[part], items[first : first + size])
            scores.scatter_(1, (corpus.gold[part] - first)[:, None].to(scores.device), -torch.inf)
            found[part] = first + scores.topk(count).indices.cpu()
    return found


if __name__ == "__main__":
    main(EntityLinker, LinkingData, links=one_seed)
