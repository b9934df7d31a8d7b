"""Retrieval by embeddings: of each query's candidates, where the right one ranks."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

ROWS = 1024  # queries whose scores exist at the same time


def paired_ranks(queries: Tensor, candidates: Tensor) -> Tensor:
    """Rank of candidate i for query i by dot product, from 1: [Q], for queries [Q, D] and candidates [Q or more, D].

    Candidates with the same score count as better ones: a constant embedding finds nothing.
    """
    ranks = []
    for start in range(0, len(queries), ROWS):
        scores = queries[start : start + ROWS] @ candidates.T
        own = scores.diagonal(start)[:, None]
        ranks.append((scores >= own).sum(1))
    return torch.cat(ranks)


class PairedRetrieval(Metric):
    """Recall@1 and @5, mean reciprocal rank and NDCG where query i's only right answer is candidate i.

    Candidates are all those of all batches and processes, those that answer no query included.

    Example:
        metric.update(text_embeddings, code_embeddings)
        metric.compute()["mrr"]
    """

    full_state_update = False
    queries: list[Tensor]
    candidates: list[Tensor]
    others: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("queries", [], dist_reduce_fx="cat")
        self.add_state("candidates", [], dist_reduce_fx="cat")
        self.add_state("others", [], dist_reduce_fx="cat")

    def update(self, queries: Tensor, candidates: Tensor, others: Tensor | None = None) -> None:
        """Add rows [B, D] of each, normalised by whoever calls where cosines are wanted; `others` answer no query."""
        if others is not None:
            self.others.append(others.detach())
        self.queries.append(queries.detach())
        self.candidates.append(candidates.detach())

    def compute(self) -> dict[str, Tensor]:
        candidates = dim_zero_cat(self.candidates)
        if len(self.others):
            candidates = torch.cat([candidates, dim_zero_cat(self.others)])
        ranks = paired_ranks(dim_zero_cat(self.queries), candidates).float()
        found = {"mrr": 1 / ranks, "r1": ranks <= 1, "r5": ranks <= 5, "ndcg": 1 / torch.log2(1 + ranks)}
        return {name: value.float().mean() for name, value in found.items()}


class SameClassRetrieval(Metric):
    """MAP@R: every item searches the others for those of its class, R of them; precision where one is found, over R.

    The measure of POJ-104 (CodeXGLUE; Musgrave et al. 2020). Items that are alone in their class are left out.
    """

    full_state_update = False
    items: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("items", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, items: Tensor, labels: Tensor) -> None:
        """Add embeddings [B, D] and their classes [B]."""
        self.items.append(items.detach())
        self.labels.append(labels)

    def compute(self) -> Tensor:
        items, labels = dim_zero_cat(self.items), dim_zero_cat(self.labels)
        found = []
        for row in range(len(items)):
            same = labels == labels[row]
            r = int(same.sum()) - 1
            if r > 0:
                scores = items @ items[row]
                scores[row] = -torch.inf
                hits = same[scores.topk(r).indices].float()
                found.append((hits * hits.cumsum(0) / torch.arange(1, r + 1, device=hits.device)).sum() / r)
        return torch.stack(found).mean() if found else torch.tensor(float("nan"))
