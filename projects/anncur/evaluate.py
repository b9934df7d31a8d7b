"""Measure how much of a cross-encoder's exact top k a method finds with a given number of calls per query.

python -m projects.anncur.evaluate test --config projects/anncur/configs/mini/evaluate.yaml
"""

from typing import Literal

import lightning.pytorch as L
import numpy as np
from torch import Tensor

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.runs import save_axis, save_picture
from projects.anncur.cur import RCOND
from projects.anncur.data import LinkingData, dev_split
from projects.anncur.encoders import BertSizes, DualEncoder, all_scores
from projects.anncur.harness.pictures import draw_grid, draw_mention, draw_scores, draw_search
from projects.anncur.recall import effective_rank, found, top
from projects.anncur.released import check_matrix, load_encoder, open_scores
from projects.anncur.retrieval import (
    Method,
    anncur,
    candidates,
    fixed_items,
    fixed_items_uncounted,
    oracle,
    popular,
    tf_idf,
    without_anchors,
)

Array = np.ndarray
SHARES = tuple(tenth / 10 for tenth in range(1, 10))


class Evaluation(L.LightningModule):
    """Top-k-Recall at equal cost: |exact top k and top k found| / k, mean over the queries that are no anchors.

    Cost is the number of calls of the cross-encoder per query. A dual encoder and TF-IDF spend all of it on re-ranking;
    ANNCUR spends a share of it on its anchor items and the rest on re-ranking.

    Args:
        method: how candidates are found.
        scores: the matrix that `score.py` or the official code wrote; rows of anchor queries are the index, the others
            the truth.
        item_scores: the matrix of items in the query's place (`item_cur`, `fixed_items`, `fixed_items_uncounted`).
        encoder: BERT of the dual encoder's towers.
        dual_encoder_weights: its weights (`dual_encoder`).
        ks: the k of top-k.
        budgets: costs of the curves.
        budget: the cost of the table. Half of it and twice it are reported too.
        anchor_share: share of the budget that anchor items get. None takes the best of nine shares for each budget and
            k *on the test queries*, as the paper's figures do: an optimistic choice.
        rcond: share of the largest singular value below which `anncur` drops one. The paper drops none.
        explore: also measure and draw `anncur` over numbers of anchors, and what the scores look like.
        grid_queries: k_q of the heat map, up to `data.anchor_queries`.
        grid_items: k_i of the heat map.
        grid_retrieved: items that are re-ranked for the heat map, beside the anchors.
        pictures: how many queries are drawn for the report.
    """

    def __init__(
        self,
        method: Literal[
            "random",
            "popular",
            "tf_idf",
            "dual_encoder",
            "anncur",
            "oracle",
            "item_cur",
            "fixed_items",
            "fixed_items_uncounted",
        ],  # fmt: skip
        scores: str,
        item_scores: str | None = None,
        encoder: BertSizes | None = None,
        dual_encoder_weights: str | None = None,
        ks: tuple[int, ...] = (1, 10, 50, 100),
        budgets: tuple[int, ...] = (50, 100, 200, 500, 1000),
        budget: int = 200,
        anchor_share: float | None = 0.5,
        rcond: float = RCOND,
        explore: bool = False,
        grid_queries: tuple[int, ...] = (50, 100, 200, 500),
        grid_items: tuple[int, ...] = (50, 100, 200, 500, 1000),
        grid_retrieved: int = 500,
        pictures: int = 2,
    ):
        super().__init__()
        self.method, self.ks, self.budgets, self.budget = method, ks, budgets, budget
        self.anchor_share, self.rcond, self.explore, self.pictures = anchor_share, rcond, explore, pictures
        self.grid_queries, self.grid_items, self.grid_retrieved = grid_queries, grid_items, grid_retrieved
        self.matrix = open_scores(expand(scores, "model.scores"))
        self.item_matrix = open_scores(expand(item_scores, "model.item_scores")) if item_scores else None
        self.dual_encoder: DualEncoder | None = None
        if method == "dual_encoder":
            if encoder is None or dual_encoder_weights is None:
                raise UserError("method dual_encoder needs --model.encoder and --model.dual_encoder_weights")
            self.dual_encoder = DualEncoder(encoder, load=False)
            load_encoder(self.dual_encoder, expand(dual_encoder_weights, "model.dual_encoder_weights"))
            self.dual_encoder.requires_grad_(False).eval()

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        data: LinkingData = self.trainer.datamodule
        tests, anchors = batch.cpu().numpy(), data.anchors_and_tests()[0]
        check_matrix(self.matrix, data.search.queries, data.search.items, "model.scores")
        exact, rows = (np.stack([self.matrix[i] for i in chosen]) for chosen in (tests, anchors))
        gold = data.search.gold.numpy()
        first_stage = self._first_stage(data, np.concatenate([tests, anchors]))
        method = (
            without_anchors(first_stage[: len(tests)]) if first_stage is not None else self._method(data, rows, exact)
        )

        self._log_recalls(method, exact, len(rows))
        approximation = method(self._anchors(self.anchor_share or 0.5, self.budget))
        chosen = candidates(approximation, self.budget)
        self.log("test/accuracy", accuracy(exact, chosen, gold[tests]))
        self.log("test/accuracy_exact", float((exact.argmax(1) == gold[tests]).mean()))
        pairs = zip(top(exact, max(self.ks)), top(approximation.scores, max(self.ks)), strict=True)
        self.log("test/overlap", float(np.mean([np.isin(*pair).mean() for pair in pairs])))
        centred = exact - exact.mean(1, keepdims=True)
        self.log("test/error", float(np.linalg.norm(approximation.scores - exact) / np.linalg.norm(centred)))
        self.log("test/rank_val", float(effective_rank(rows)))  # on anchor queries, which test nothing
        self.log("test/accuracy_exact_val", float((rows.argmax(1) == gold[anchors]).mean()))
        known, held_out = dev_split(len(rows), data.seed)
        if first_stage is not None:
            on_anchors = candidates(without_anchors(first_stage[len(tests) :])(0), self.budget)
            self.log("test/accuracy_val", accuracy(rows, on_anchors, gold[anchors]))
            chosen_val = on_anchors[held_out]
        else:
            index = self._method(data, rows[known], rows[held_out])
            chosen_val = candidates(index(self._anchors(self.anchor_share or 0.5, self.budget)), self.budget)
        self.log("test/recall_val", float(found(rows[held_out], chosen_val, [max(self.ks)]).mean()))

        if self.explore:
            self._explore(rows, exact, data.seed)
        domain = data.search_domain
        for query in range(min(self.pictures, len(tests))):
            key, mention = f"query {query}", draw_mention(domain.mentions[tests[query]])
            save_picture(self.run_dir, f"{key}, mention", mention, "A mention in its context", reference=True)
            search = draw_search(domain.entities, exact[query], chosen[query], gold[tests[query]])
            save_picture(self.run_dir, key, search, f"Exact top 10: found with {self.budget} calls, or missed (red)")

    def _first_stage(self, data: LinkingData, queries: Array) -> Array | None:
        """Scores [len(queries), N] of a retriever that asks the cross-encoder nothing; None for the other methods."""
        if self.method == "random":
            return np.random.default_rng(data.seed).random((len(queries), len(data.search.items)))
        if self.method == "tf_idf":
            return tf_idf(data.search_domain, queries)
        if self.dual_encoder is None:
            return None
        embedded = self.dual_encoder.embed_all("query", data.search.queries[queries])
        return all_scores(embedded, self.dual_encoder.embed_all("item", data.search.items)).cpu().numpy()

    def _method(self, data: LinkingData, rows: Array, exact: Array) -> Method:
        """A method that is made of exact scores."""
        if self.method == "anncur":
            return anncur(rows, exact, data.seed, self.rcond)
        if self.method == "oracle":
            return oracle(rows, exact, data.seed)
        if self.method == "popular":
            return popular(rows, exact)
        if self.item_matrix is None:
            raise UserError(f"method {self.method} needs --model.item_scores")
        check_matrix(self.item_matrix, data.items_as_queries(), data.search.items, "model.item_scores")
        item_rows = np.stack([self.item_matrix[i] for i in range(len(self.item_matrix))])
        if self.method == "fixed_items":
            return fixed_items(item_rows, data.row_items, exact, data.seed)
        if len(item_rows) < len(rows):
            raise UserError(
                f"{len(item_rows)} rows of items cannot replace {len(rows)} queries: raise --data.item_rows"
            )
        if self.method == "fixed_items_uncounted":
            return fixed_items_uncounted(item_rows, data.row_items, exact, len(rows), data.seed)
        chosen = np.random.default_rng(data.seed).permutation(len(item_rows))[: len(rows)]
        return anncur(item_rows[chosen], exact, data.seed)

    def _anchors(self, share: float, budget: int) -> int:
        return max(1, round(share * budget))

    def _log_recalls(self, method: Method, exact: Array, anchor_queries: int) -> None:
        """Curves over the number of calls, and the table's figures."""
        curves = {budget: self._recalls(method, exact, budget) for budget in self.budgets}
        save_axis(self.run_dir, [f"recall@{k}" for k in self.ks], "calls a query")
        for budget, recalls in curves.items():
            series = {f"recall@{k}": value for k, value in zip(self.ks, recalls, strict=True)}
            for logger in self.loggers:
                logger.log_metrics(series, step=budget)
        places = {"": self.budget, "_half": self.budget // 2, "_double": 2 * self.budget, "_square": 2 * anchor_queries}
        for place, budget in places.items():  # "_square": with half of the budget for anchor items, k_i = k_q
            recalls = curves.get(budget) or self._recalls(method, exact, budget)
            self.log_dict({f"test/recall_{k}{place}": value for k, value in zip(self.ks, recalls, strict=True)})

    def _recalls(self, method: Method, exact: Array, budget: int) -> list[float]:
        """Top-k-Recall for each k with `budget` calls."""
        shares = SHARES if self.anchor_share is None else [self.anchor_share]
        tried = [method(self._anchors(share, budget)) for share in shares]
        recalls = np.stack([found(exact, candidates(one, budget), self.ks).mean(1) for one in tried])
        return recalls.max(0).tolist()

    def _explore(self, rows: Array, exact: Array, seed: int) -> None:
        """Recall for k = 10 over numbers of anchor queries and items, always the same number re-ranked; the scores."""
        if max(self.grid_queries) > len(rows) or max(self.grid_items) > rows.shape[1]:
            raise UserError(
                f"the heat map goes up to {max(self.grid_queries)} anchor queries and {max(self.grid_items)} items of "
                f"{len(rows)} and {rows.shape[1]}: lower --model.grid_queries or --model.grid_items"
            )
        order = np.random.default_rng(seed).permutation(len(rows))
        grid = np.zeros((len(self.grid_queries), len(self.grid_items)))
        for i, queries in enumerate(self.grid_queries):
            method = anncur(rows[order[:queries]], exact, seed, self.rcond)
            for j, items in enumerate(self.grid_items):
                grid[i, j] = found(exact, top(method(items).scores, self.grid_retrieved), [10]).mean()
        half = max(j for j, items in enumerate(self.grid_items) if items <= self.grid_queries[-1] / 2)
        self.log("test/grid_many", float(grid[-1, half]))
        self.log("test/grid_few_queries", float(grid[0, half]))
        self.log("test/grid_few_items", float(grid[-1, 0]))
        heat_map = draw_grid(grid, self.grid_queries, self.grid_items)
        save_picture(self.run_dir, "anchors", heat_map, f"Recall of the top 10, {self.grid_retrieved} items re-ranked")

        scores = np.concatenate([rows, exact])
        self.log("test/rank", float(effective_rank(scores)))
        save_picture(self.run_dir, "scores", draw_scores(scores), "The cross-encoder's scores")


def accuracy(exact: Array, chosen: Array, gold: Array) -> float:
    """Share of the queries whose right item [Q] has the largest exact score [Q, N] of the items `chosen` [Q, n]."""
    best = np.take_along_axis(chosen, top(np.take_along_axis(exact, chosen, 1), 1), 1)[:, 0]
    return float((best == gold).mean())


if __name__ == "__main__":
    main(Evaluation, LinkingData, links=one_seed)
