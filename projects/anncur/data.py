"""Batches for training, scoring and searching: indices; the tokens stay in the corpora."""

from functools import cached_property

import lightning.pytorch as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from common.data.stream import stream_loader
from projects.anncur.linking import Corpus, Domain, Source, split


class Indices:
    """Draws of `stream_loader`: the numbers themselves."""

    def __init__(self, indices: np.ndarray):
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, index: int, rng: np.random.Generator) -> int:
        return int(self.indices[index])


class LinkingData(L.LightningDataModule):
    """Queries and items of zero-shot entity linking.

    Args:
        source: where domains come from: the procedural world, or ZeShEL on disk.
        train: domains whose gold entities encoders are trained on.
        val: domains for validation.
        search: the domain that is searched; its gold entities are never used.
        anchor_queries: k_q, how many of its mentions are scored against all items beforehand. The others test the search.
        query_length: tokens of a query.
        item_length: tokens of an item.
        batch_size: queries per step and process.
        val_queries: how many of the validation queries are used; 0 for all.
        num_workers: processes that draw indices.
        seed: order of training, and which mentions are the anchor queries.
    """

    def __init__(
        self,
        source: Source,
        train: list[str],
        val: list[str],
        search: str,
        anchor_queries: int = 100,
        query_length: int = 128,
        item_length: int = 128,
        batch_size: int = 16,
        val_queries: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.source, self.domains = source, {"train": train, "val": val, "search": [search]}
        self.anchor_queries, self.query_length, self.item_length = anchor_queries, query_length, item_length
        self.batch_size, self.val_queries, self.num_workers, self.seed = batch_size, val_queries, num_workers, seed

    def _corpus(self, name: str) -> Corpus:
        domains = [self.source.domain(domain) for domain in self.domains[name]]
        return Corpus(domains, self.source.tokenizer(), self.query_length, self.item_length)

    @cached_property
    def train(self) -> Corpus:
        return self._corpus("train")

    @cached_property
    def val(self) -> Corpus:
        return self._corpus("val")

    @cached_property
    def search(self) -> Corpus:
        return self._corpus("search")

    @cached_property
    def search_domain(self) -> Domain:
        """The searched domain as text."""
        return self.source.domain(self.domains["search"][0])

    def anchors_and_tests(self) -> tuple[np.ndarray, np.ndarray]:
        """Anchor queries and test queries of the searched domain."""
        return split(len(self.search_domain.mentions), self.anchor_queries, self.seed)

    def train_dataloader(self) -> DataLoader:
        indices = Indices(np.arange(len(self.train.queries)))
        return stream_loader(indices, self.batch_size, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        count = min(self.val_queries or len(self.val.queries), len(self.val.queries))
        chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(self.val.queries))[:count])
        return DataLoader(chosen, batch_size=self.batch_size)  # type: ignore[arg-type]

    def test_dataloader(self) -> DataLoader:
        return DataLoader(torch.from_numpy(self.anchors_and_tests()[1]), batch_size=64)  # type: ignore[arg-type]
