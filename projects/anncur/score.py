"""Score every query of the searched domain against every item with a trained cross-encoder.

    python -m projects.anncur.score predict --config projects/anncur/configs/mini/emb_scores.yaml

Writes `scores/` into the run folder: a memory-mapped matrix [M, N] in float32, a shard per process. An interrupted run
goes on with the rows that are missing. The anchor queries' rows are what ANNCUR builds its index from and what a dual
encoder is distilled from; all the others only tell afterwards which items a search should have found.
"""

from collections.abc import Callable
from typing import Literal

import lightning.pytorch as L
import torch
from torch import Tensor

from common.cli import main, one_seed
from common.data.stores import ArrayStore
from common.paths import expand
from projects.anncur.data import LinkingData
from projects.anncur.encoders import BertSizes, CrossEncoder
from projects.anncur.released import load_encoder
from projects.anncur.scorer import Scorer, row_names


class ScoreMatrix(L.LightningModule):
    """Scores of a trained cross-encoder.

    Args:
        kind: "emb" or "cls".
        encoder: its BERT.
        weights: its weights: of a stage, or the official checkpoint.
        rows: what stands in the query's place. "items": `data.item_rows` items, for the item-item baselines.
        pairs: (query, item) pairs that are scored at once.
    """

    def __init__(
        self,
        kind: Literal["emb", "cls"],
        encoder: BertSizes,
        weights: str,
        rows: Literal["queries", "items"] = "queries",
        pairs: int = 512,
    ):
        super().__init__()
        net = CrossEncoder(kind, encoder, load=False)
        load_encoder(net, expand(weights, "model.weights"))
        self.net = net.requires_grad_(False).eval()
        self.rows, self.pairs = rows, pairs

    def setup(self, stage: str) -> None:
        data: LinkingData = self.trainer.datamodule
        self.items = data.search.items
        self.queries = data.search.queries if self.rows == "queries" else data.items_as_queries()
        self.scorer = Scorer(token_scorer(self.net, lambda: self.device), self.pairs)
        self.store = ArrayStore.create(
            self.run_dir / "scores", len(self.queries), (len(self.items),), "float32",
            rank=self.trainer.global_rank, world_size=self.trainer.world_size, key=f"{data.name}, {self.rows}",
            names=row_names(self.queries, self.items),
        )  # fmt: skip
        data.pending = self.store.missing()

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        for row in batch.tolist():
            self.store.write(row, self.scorer.row(self.queries[row], self.items))

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier()  # the stage is finished when every process is


def token_scorer(
    net: CrossEncoder, device: Callable[[], torch.device]
) -> Callable[[list[tuple[Tensor, Tensor]]], Tensor]:
    """A cross-encoder as a scorer of pairs of token rows ([L_q], [L_i])."""

    @torch.no_grad()
    def score(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        queries, items = (torch.stack(side).to(device()) for side in zip(*pairs, strict=True))
        return net(queries, items[:, None])[:, 0]

    return score


if __name__ == "__main__":
    main(ScoreMatrix, LinkingData, links=one_seed)
