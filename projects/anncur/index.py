"""The index: k-nearest-neighbour search with any expensive scorer.

    scorer = Scorer(CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2"))         # or any callable on pairs
    index = Index.build(scorer, queries, items, "index/", "MiniLM, my items", anchor_items=100)
    best = index.search(scorer, "a new query", items, k=10, budget=200)
    best.items, best.scores, best.calls
    index.search_many(scorer, many_queries, items, k=10, budget=200)

Building costs k_q * N calls of the scorer. A search costs `budget` calls at most, and beside them one product of a
vector [k_i] with a matrix [k_i, N] and a top-k, in chunks, on whatever device the index was moved to.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.data.stores import ArrayStore
from common.errors import UserError
from projects.anncur.cur import RCOND, link_matrix
from projects.anncur.scorer import Scorer, fingerprints, row_names, score_matrix

CHUNK = 1 << 17  # items whose approximate scores exist at the same time
AT_ONCE = 64  # queries that are searched together
NEAR, TRUNCATES = 0.2, 1e-4  # share of k_q within which k_i is too near; a cut-off that helps against it


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
        texts: fingerprints of the items, [N], by which a search notices others; None for scores without texts.
    """

    def __init__(self, anchors: np.ndarray, embeddings: Tensor, texts: np.ndarray | None = None):
        self.anchors, self.embeddings, self.texts = anchors, embeddings, texts

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
        rcond: float = RCOND,
    ) -> "Index":
        """Score the anchor `queries` against all `items` (kept in `folder`, resumable), and factorise.

        To use several processes, have each call `score_matrix` with its rank, then `from_matrix` once.

        Args:
            key: names the scorer; scores in `folder` are only taken under the same key and for the same texts.
            anchor_items: k_i, at most half of what a search may spend; neither near the number of queries.
            seed: draws the anchor items.
            rcond: see `from_matrix`.
        """
        anchors = draw_anchors(len(items), anchor_items, seed)
        score_matrix(scorer, queries, items, folder, key)
        rows = ArrayStore.open(folder, key, row_names(queries, items))
        return cls.from_matrix(rows, anchors, rcond, fingerprints(items))

    @classmethod
    def from_matrix(
        cls,
        rows: ArrayStore | np.ndarray,
        anchors: np.ndarray,
        rcond: float = RCOND,
        texts: np.ndarray | None = None,
    ) -> "Index":
        """Factorise scores that exist: R [k_q, N], read chunk by chunk.

        Warns where k_i is near k_q: R_anc is then nearly singular, and recall collapses.

        Args:
            rcond: singular values of R_anc below this share of the largest one are dropped. The paper drops none; 1e-2
                or so prevents the collapse.
            texts: fingerprints of the items, see `scorer.fingerprints`.
        """
        rows = [rows[i] for i in range(len(rows))]  # views into the file
        if near_square(len(rows), len(anchors)) and rcond < TRUNCATES:
            warnings.warn(
                f"{len(anchors)} anchor items are nearly as many as the {len(rows)} anchor queries: the block to be "
                "inverted is nearly singular, and recall collapses. Use fewer anchor items, more anchor queries, or "
                "rcond=1e-2",
                stacklevel=2,
            )
        u = link_matrix(np.stack([row[anchors] for row in rows]), rcond)
        items = len(rows[0])
        embeddings = torch.empty(items, len(anchors))
        for start in range(0, items, CHUNK):
            part = np.stack([row[start : start + CHUNK] for row in rows]).astype(np.float64)
            embeddings[start : start + CHUNK] = torch.from_numpy((u @ part).T)
        return cls(np.asarray(anchors), embeddings, texts)

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> "Index":
        """The same index with its embeddings elsewhere, or rounded: searches run there."""
        return Index(self.anchors, self.embeddings.to(device, dtype), self.texts)

    def save(self, file: str | Path) -> None:
        """Write the index as safetensors."""
        tensors = {
            "anchors": torch.from_numpy(self.anchors.astype(np.int64)),
            "embeddings": self.embeddings.contiguous(),
        }
        if self.texts is not None:
            tensors["texts"] = torch.from_numpy(np.array(self.texts))
        save_file(tensors, str(file), {"format": "anncur"})

    @classmethod
    def load(cls, file: str | Path) -> "Index":
        """Read what `save` wrote."""
        try:
            tensors = load_file(str(file))
            texts = tensors.get("texts")
            return cls(tensors["anchors"].numpy(), tensors["embeddings"], None if texts is None else texts.numpy())
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{file} is no index ({error}): give a file that Index.save wrote") from error

    def __len__(self) -> int:
        return len(self.embeddings)

    def retrieve(self, anchor_scores: np.ndarray, n: int) -> np.ndarray:
        """The n items with the largest approximate scores c E, anchors excepted, best first.

        Args:
            anchor_scores: of one query [k_i], or of several [Q, k_i].

        Returns:
            Items [n], or [Q, n].
        """
        given = np.asarray(anchor_scores)
        queries = torch.as_tensor(np.atleast_2d(given), dtype=self.embeddings.dtype, device=self.embeddings.device)
        anchors = torch.from_numpy(self.anchors).to(queries.device)
        best, items = queries.new_empty(len(queries), 0), anchors.new_empty(len(queries), 0)
        for start in range(0, len(self), CHUNK):
            scores = queries @ self.embeddings[start : start + CHUNK].T
            here = anchors[(anchors >= start) & (anchors < start + CHUNK)] - start
            scores[:, here] = -torch.inf
            values, found = scores.topk(min(n, scores.shape[1]))
            best, items = torch.cat([best, values], 1), torch.cat([items, found + start], 1)
        order = best.topk(min(n, len(self) - len(anchors))).indices
        found = items.gather(1, order).cpu().numpy()
        return found if given.ndim > 1 else found[0]

    def search(self, scorer: Scorer, query: Any, items: Sequence[Any], k: int, budget: int) -> Neighbours:
        """The k best items for a new query with at most `budget` calls of the scorer.

        The query is scored against the anchor items (k_i calls); of the others, those with the largest approximate
        scores are scored exactly (budget - k_i calls). The best of all items with an exact score are returned: an
        anchor needs no second call.

        Raises:
            UserError: a budget that the anchors use up, or other items than those of the index.
        """
        return self.search_many(scorer, [query], items, k, budget)[0]

    def search_many(
        self, scorer: Scorer, queries: Sequence[Any], items: Sequence[Any], k: int, budget: int
    ) -> list[Neighbours]:
        """`search` for several queries, whose pairs fill the scorer's batches together."""
        if len(items) != len(self):
            raise UserError(f"the index has {len(self)} items, here are {len(items)}: search the ones it was built for")
        spare = budget - len(self.anchors)
        if spare < 0 or budget < k or k < 1:
            raise UserError(
                f"a budget of {budget} calls is too small for {len(self.anchors)} anchor items and k = {k}: raise it, "
                "or build the index with fewer anchor items (half the budget is a fair choice)"
            )
        neighbours: list[Neighbours] = []
        for start in range(0, len(queries), AT_ONCE):
            neighbours += self._search(scorer, queries[start : start + AT_ONCE], items, k, spare)
        return neighbours

    def _search(
        self, scorer: Scorer, queries: Sequence[Any], items: Sequence[Any], k: int, spare: int
    ) -> list[Neighbours]:
        def scored(candidates: np.ndarray) -> np.ndarray:
            self._check_texts(items, candidates)
            pairs = [(query, items[i]) for query, row in zip(queries, candidates, strict=True) for i in row]
            return scorer.pairs(pairs).reshape(candidates.shape)

        anchors = np.broadcast_to(self.anchors, (len(queries), len(self.anchors)))
        anchor_scores = scored(anchors)
        retrieved = self.retrieve(anchor_scores, spare)
        candidates = np.concatenate([anchors, retrieved], 1)
        exact = np.concatenate([anchor_scores, scored(retrieved)], 1)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        return [
            Neighbours(row[best], scores[best], len(row))
            for row, scores, best in zip(candidates, exact, order, strict=True)
        ]

    def _check_texts(self, items: Sequence[Any], used: np.ndarray) -> None:
        """UserError if an item that a search uses is another than when the index was built."""
        if self.texts is None:
            return
        used = np.unique(used)
        changed = used[fingerprints([items[i] for i in used]) != self.texts[used]]
        if len(changed):
            raise UserError(
                f"item {changed[0]} is not the one that the index was built for: search the same items in the same "
                "order, or build the index again"
            )


def near_square(queries: int, anchors: int) -> bool:
    """Whether k_i is so near k_q that the block where anchors cross is nearly singular."""
    return abs(anchors - queries) <= NEAR * queries


def draw_anchors(items: int, count: int, seed: int) -> np.ndarray:
    """Anchor items: `count` of `items`, uniform, without replacement, ascending.

    Raises:
        UserError: more anchors than items.
    """
    if not 0 < count <= items:
        raise UserError(f"{count} anchor items of {items} items: choose between 1 and {items}")
    return np.sort(np.random.default_rng(seed).choice(items, count, replace=False))
