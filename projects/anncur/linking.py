"""How mentions and entities become tokens.

A query is [CLS] left [unused0] mention [unused1] right [SEP], an item [CLS] title [unused2] text [SEP]; both are padded
with zeros, the query on its right too, so that the item's tokens always begin at the same position of a pair.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from common.data.linking import Domain, Entity
from common.errors import UserError

START, END, TITLE = 1, 2, 3
"""Ids of [unused0], [unused1] and [unused2] in BERT's vocabulary: mention start, mention end, end of the title."""


def query_ids(
    left: Sequence[int],
    mention: Sequence[int],
    right: Sequence[int],
    length: int,
    cls: int,
    sep: int,
    start: int,
    end: int,
) -> list[int]:
    """Token ids of a query, cut to `length` and not padded: the mention stays whole, and what is nearest to it.

    The left context may take (length - |tags and mention|) // 2 - 1 tokens and the right one the rest but two; what one
    side leaves unused goes to the other. A mention that alone is too long is cut at its end.
    """
    tagged = [start, *mention[: length - 4], end]
    left_quota = max(0, (length - len(tagged)) // 2 - 1)
    right_quota = max(0, length - len(tagged) - left_quota - 2)
    left_spare, right_spare = max(0, left_quota - len(left)), max(0, right_quota - len(right))
    kept = len(left) - min(len(left), left_quota + right_spare)  # not left[-n:], which keeps everything for n = 0
    return [cls, *left[kept:], *tagged, *right[: right_quota + left_spare], sep]


def item_ids(title: Sequence[int], text: Sequence[int], length: int, cls: int, sep: int) -> list[int]:
    """Token ids of an item, cut to `length` and not padded; the tag after the title stays."""
    return [cls, *[*title[: length - 3], TITLE, *text][: length - 2], sep]


def padded(rows: Iterable[list[int]], length: int) -> Tensor:
    """int32 [len(rows), length], zeros behind each row."""
    return torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.int32).view(-1, length)


class Corpus:
    """Tokens of several domains, their items and queries numbered through.

    Attributes:
        queries: tokens [Q, L_q].
        items: tokens [N, L_i].
        gold: the item that a query means, [Q].
        ranges: first item of a query's domain and number of its items, [Q, 2].
    """

    def __init__(
        self, domains: Iterable[Domain], tokenizer: PreTrainedTokenizerBase, query_length: int, item_length: int
    ):
        if tokenizer.convert_tokens_to_ids(["[unused0]", "[unused1]", "[unused2]"]) != [START, END, TITLE]:
            raise UserError(f"{tokenizer.name_or_path} is not a BERT vocabulary: [unused0..2] must have ids 1, 2, 3")
        self.query_length, self.item_length, self._tokenizer = query_length, item_length, tokenizer
        queries, items, gold, ranges, first = [], [], [], [], 0
        for domain in domains:
            mentions, size = domain.mentions, len(domain.entities)
            left = [" ".join(m.left.split()[-query_length:]) for m in mentions]  # a word is at least one token
            right = [" ".join(m.right.split()[:query_length]) for m in mentions]
            queries.append(self._queries(left, [m.mention for m in mentions], right))
            items.append(self._items(domain.entities))
            gold += [first + m.entity for m in mentions]
            ranges += [[first, size]] * len(mentions)
            first += size
        self.queries, self.items = torch.cat(queries), torch.cat(items)
        self.gold, self.ranges = torch.tensor(gold), torch.tensor(ranges)

    def as_queries(self, domain: Domain, items: np.ndarray) -> Tensor:
        """Items in the query's place, [len(items), L_q]: the title as the mention, the text to its right."""
        entities = [domain.entities[i] for i in items]
        return self._queries([""] * len(entities), [e.title for e in entities], self._texts(entities))

    def _queries(self, left: list[str], mention: list[str], right: list[str]) -> Tensor:
        special = {**self._special(), "start": START, "end": END}
        parts = zip(self._ids(left), self._ids(mention), self._ids(right), strict=True)
        return padded((query_ids(*part, self.query_length, **special) for part in parts), self.query_length)

    def _items(self, entities: list[Entity]) -> Tensor:
        parts = zip(self._ids([e.title for e in entities]), self._ids(self._texts(entities)), strict=True)
        return padded((item_ids(*part, self.item_length, **self._special()) for part in parts), self.item_length)

    def _texts(self, entities: list[Entity]) -> list[str]:
        """As much of the entities' texts as can count: a word is at least one token."""
        longest = max(self.query_length, self.item_length)
        return [" ".join(entity.text.split()[:longest]) for entity in entities]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _special(self) -> dict[str, int]:
        return {"cls": self._tokenizer.cls_token_id, "sep": self._tokenizer.sep_token_id}


def split(queries: int, anchors: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Anchor queries, drawn at random, and all others, on which search is tested; both ascending."""
    if anchors >= queries:
        raise UserError(
            f"{anchors} anchor queries of {queries} queries leave none to test on: lower --data.anchor_queries"
        )
    order = np.random.default_rng(seed).permutation(queries)
    return np.sort(order[:anchors]), np.sort(order[anchors:])
