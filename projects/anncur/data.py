"""Batches for training, scoring and searching: indices; the tokens stay in the corpora."""

from functools import cached_property

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from common.data.linking import Domain, LinkingSource
from common.data.stream import stream_loader
from common.data.tokenizers import load_tokenizer
from common.errors import UserError
from projects.anncur.linking import Corpus, split
from projects.anncur.world import LinkingWorld


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
        search: the domain that is searched; its gold entities are only counted. "{seed}" in it is replaced: a domain of
            its own for each seed.
        tokenizer: hub id; None for the world's own, a word a token.
        search_mentions: how many of its mentions are scored, the first ones, as in the official matrices; 0 for all.
        anchor_queries: k_q, how many of those are scored against all items beforehand. The others test the search.
        item_rows: items that are scored in the query's place, for the item-item baselines; drawn once.
        query_length: tokens of a query.
        item_length: tokens of an item.
        batch_size: queries per step and process.
        val_queries: how many of the validation queries are used; 0 for all.
        num_workers: processes that draw indices.
        seed: order of training, and which mentions are the anchor queries.
    """

    def __init__(
        self,
        source: LinkingSource,
        train: list[str],
        val: list[str],
        search: str,
        tokenizer: str | None = None,
        search_mentions: int = 0,
        anchor_queries: int = 100,
        item_rows: int = 200,
        query_length: int = 128,
        item_length: int = 128,
        batch_size: int = 16,
        val_queries: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.source, self.domains, self._tokenizer = source, {"train": train, "val": val}, tokenizer
        self.name = search.replace("{seed}", str(seed))
        self.search_mentions, self.anchor_queries, self.item_rows = search_mentions, anchor_queries, item_rows
        self.query_length, self.item_length = query_length, item_length
        self.batch_size, self.val_queries, self.num_workers, self.seed = batch_size, val_queries, num_workers, seed
        self.pending: np.ndarray = np.empty(0, np.int64)
        """Rows that `predict` still has to score; the stage sets it."""

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        if self._tokenizer:
            return load_tokenizer(self._tokenizer)
        if isinstance(self.source, LinkingWorld):
            return self.source.tokenizer()
        raise UserError("data.tokenizer is missing: name the hub id of a BERT, such as bert-base-uncased")

    def _corpus(self, names: list[str]) -> Corpus:
        domains = (self.source.domain(name) for name in names)  # one at a time: contexts are whole documents
        return Corpus(domains, self.tokenizer, self.query_length, self.item_length)

    @cached_property
    def train(self) -> Corpus:
        return self._corpus(self.domains["train"])

    @cached_property
    def val(self) -> Corpus:
        return self._corpus(self.domains["val"])

    @cached_property
    def search_domain(self) -> Domain:
        """The searched domain as text, with the mentions that are scored."""
        domain = self.source.domain(self.name)
        return Domain(domain.name, domain.entities, domain.mentions[: self.search_mentions or None])

    @cached_property
    def search(self) -> Corpus:
        return Corpus([self.search_domain], self.tokenizer, self.query_length, self.item_length)

    @cached_property
    def row_items(self) -> np.ndarray:
        """The items that are scored in the query's place."""
        items = len(self.search_domain.entities)
        return np.sort(np.random.default_rng(0).permutation(items)[: self.item_rows])

    def items_as_queries(self) -> Tensor:
        """Tokens of `row_items` in the query's place, [n, L_q]."""
        return self.search.as_queries(self.search_domain, self.row_items)

    def anchors_and_tests(self) -> tuple[np.ndarray, np.ndarray]:
        """Anchor queries and test queries of the searched domain."""
        return split(len(self.search_domain.mentions), self.anchor_queries, self.seed)

    def train_dataloader(self) -> DataLoader:
        return self.shuffled(np.arange(len(self.train.queries)))

    def shuffled(self, indices: np.ndarray) -> DataLoader:
        return stream_loader(Indices(indices), self.batch_size, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        count = min(self.val_queries or len(self.val.queries), len(self.val.queries))
        return ordered(np.random.default_rng(0).permutation(len(self.val.queries))[:count], self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        return ordered(self.pending, 1)

    def test_dataloader(self) -> DataLoader:
        tests = self.anchors_and_tests()[1]
        return ordered(tests, len(tests))


def dev_split(anchor_queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the anchor queries, by place, a distillation trains on, and the tenth that chooses its checkpoint."""
    order = np.random.default_rng(seed).permutation(anchor_queries)
    count = max(1, anchor_queries // 10)
    return order[count:], order[:count]


def ordered(indices: np.ndarray, batch_size: int) -> DataLoader:
    """Batches of numbers as they come."""
    return DataLoader(torch.from_numpy(indices), batch_size=batch_size)  # type: ignore[arg-type]
