"""The index: k-nearest-neighbour search with any expensive scorer.

    scorer = Scorer(CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2"))         # or any callable on pairs
    index = Index.build(scorer, queries, items, "index/", "MiniLM, my items", anchor_items=100)
    best = index.search(scorer, "a new query", items, k=10, budget=200)
    best.items, best.scores, best.calls

Building costs k_q * N calls of the scorer. A search costs `budget` calls at most, and beside them one product of a
vector [k_i] with a matrix [k_i, N] and a top-k, in chunks, on whatever device the index was moved to.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.data.stores import ArrayStore
from common.errors import UserError
from projects.anncur.cur import RCOND, link_matrix
from projects.anncur.scorer import Scorer, score_matrix

CHUNK = 1 << 17  # items whose approximate scores exist at the same time


class Neighbours(NamedTuple):
    """What a search found: items best first, their exact scores, and how often the scorer was called for it."""

    items: np.ndarray
    scores: np.ndarray
    calls: int


class Index:
    """Item embeddings E = pinv(R_anc) R, and which items are the anchors.

    Args:
        anchors: indices of the anchor items, ascending, [k_i].
        embeddings: E transposed, float32 [N, k_i]: an item's embedding is a row.
    """

    def __init__(self, anchors: np.ndarray, embeddings: Tensor):
        self.anchors, self.embeddings = anchors, embeddings

    @classmethod
    def build(
        cls,
        scorer: Scorer,
        queries: Sequence[Any],
        items: Sequence[Any],
        folder: str | Path,
        key: str,
        anchor_items: int,
        seed: int = 0,
    ) -> "Index":
        """Score the anchor `queries` against all `items` (kept in `folder`, resumable), and factorise.

        To use several processes, have each call `score_matrix` with its rank, then `from_matrix` once.

        Args:
            key: names the scorer, the queries and the items; scores in `folder` are only taken under the same key.
            anchor_items: k_i, at most half of what a search may spend; neither near the number of queries.
            seed: draws the anchor items.
        """
        score_matrix(scorer, queries, items, folder, key)
        return cls.from_matrix(ArrayStore.open(folder, key), draw_anchors(len(items), anchor_items, seed))

    @classmethod
    def from_matrix(cls, rows: ArrayStore | np.ndarray, anchors: np.ndarray, rcond: float = RCOND) -> "Index":
        """Factorise scores that exist: R [k_q, N], read chunk by chunk.

        Args:
            rcond: singular values of R_anc below this share of the largest one are dropped. The paper drops none, and
                recall collapses where k_i is near k_q; 1e-2 or so prevents that.
        """
        rows = [rows[i] for i in range(len(rows))]  # views into the file
        u = link_matrix(np.stack([row[anchors] for row in rows]), rcond)
        items = len(rows[0])
        embeddings = torch.empty(items, len(anchors))
        for start in range(0, items, CHUNK):
            part = np.stack([row[start : start + CHUNK] for row in rows]).astype(np.float64)
            embeddings[start : start + CHUNK] = torch.from_numpy((u @ part).T)
        return cls(np.asarray(anchors), embeddings)

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> "Index":
        """The same index with its embeddings elsewhere, or rounded: searches run there."""
        return Index(self.anchors, self.embeddings.to(device, dtype))

    def save(self, file: str | Path) -> None:
        """Write the index as safetensors."""
        anchors = torch.from_numpy(self.anchors.astype(np.int64))
        save_file({"anchors": anchors, "embeddings": self.embeddings.contiguous()}, str(file), {"format": "anncur"})

    @classmethod
    def load(cls, file: str | Path) -> "Index":
        """Read what `save` wrote."""
        tensors = load_file(str(file))
        return cls(tensors["anchors"].numpy(), tensors["embeddings"])

    def __len__(self) -> int:
        return len(self.embeddings)

    def retrieve(self, anchor_scores: np.ndarray, n: int) -> np.ndarray:
        """The n items with the largest approximate scores c E, anchors excepted, best first: c [k_i] -> [n]."""
        query = torch.as_tensor(anchor_scores, dtype=self.embeddings.dtype, device=self.embeddings.device)
        anchors = torch.from_numpy(self.anchors).to(query.device)
        best, items = query.new_empty(0), anchors.new_empty(0)
        for start in range(0, len(self), CHUNK):
            scores = self.embeddings[start : start + CHUNK] @ query
            here = anchors[(anchors >= start) & (anchors < start + CHUNK)] - start
            scores[here] = -torch.inf
            values, found = scores.topk(min(n, len(scores)))
            best, items = torch.cat([best, values]), torch.cat([items, found + start])
        best, order = best.topk(min(n, len(self) - len(anchors)))
        return items[order].cpu().numpy()

    def search(self, scorer: Scorer, query: Any, items: Sequence[Any], k: int, budget: int) -> Neighbours:
        """The k best items for a new query with at most `budget` calls of the scorer.

        The query is scored against the anchor items (k_i calls); of the others, those with the largest approximate
        scores are scored exactly (budget - k_i calls). The best of all items with an exact score are returned: an
        anchor needs no second call.

        Raises:
            UserError: a budget that the anchors use up, or other items than those of the index.
        """
        if len(items) != len(self):
            raise UserError(f"the index has {len(self)} items, here are {len(items)}: search the ones it was built for")
        spare = budget - len(self.anchors)
        if spare < 0 or budget < k:
            raise UserError(
                f"a budget of {budget} calls is too small for {len(self.anchors)} anchor items and k = {k}: raise it, "
                "or build the index with fewer anchor items (half the budget is a fair choice)"
            )
        before = scorer.calls
        anchor_scores = scorer.row(query, [items[i] for i in self.anchors])
        retrieved = self.retrieve(anchor_scores, spare)
        candidates = np.concatenate([self.anchors, retrieved])
        exact = np.concatenate([anchor_scores, scorer.row(query, [items[i] for i in retrieved])])
        order = np.argsort(-exact, kind="stable")[:k]
        return Neighbours(candidates[order], exact[order], scorer.calls - before)


def draw_anchors(items: int, count: int, seed: int) -> np.ndarray:
    """Anchor items: `count` of `items`, uniform, without replacement, ascending.

    Raises:
        UserError: more anchors than items.
    """
    if not 0 < count <= items:
        raise UserError(f"{count} anchor items of {items} items: choose between 1 and {items}")
    return np.sort(np.random.default_rng(seed).choice(items, count, replace=False))
