"""Zero-shot entity linking: mentions in context, entities with a title and a text, and how both become tokens.

A query is [CLS] left [unused0] mention [unused1] right [SEP], an item [CLS] title [unused2] text [SEP]; both are padded
with zeros, the query on its right too, so that the item's tokens always begin at the same position of a pair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from common.errors import UserError

START, END, TITLE = 1, 2, 3
"""Ids of [unused0], [unused1] and [unused2] in BERT's vocabulary: mention start, mention end, end of the title."""


@dataclass(frozen=True)
class Entity:
    title: str
    text: str


@dataclass(frozen=True)
class Mention:
    """A mention in its context; `entity` is the index of what it means."""

    left: str
    mention: str
    right: str
    entity: int


@dataclass(frozen=True)
class Domain:
    """One world of ZeShEL, or of the procedural one: its entities are the items, its mentions the queries."""

    name: str
    entities: list[Entity]
    mentions: list[Mention]


class Source(Protocol):
    """Where domains come from."""

    def domain(self, name: str) -> Domain: ...

    def tokenizer(self) -> PreTrainedTokenizerBase: ...


def query_ids(
    left: Sequence[int], mention: Sequence[int], right: Sequence[int], length: int, cls: int, sep: int
) -> list[int]:
    """Token ids of a query, cut to `length` and not padded: the mention stays whole, what is nearest to it stays longest.

    The left context may take (length - |tags and mention|) // 2 - 1 tokens and the right one the rest but two; what one
    side leaves unused goes to the other. A mention that alone is too long is cut at its end.
    """
    tagged = [START, *mention[: length - 4], END]
    left_quota = max(0, (length - len(tagged)) // 2 - 1)
    right_quota = max(0, length - len(tagged) - left_quota - 2)
    left_quota, right_quota = (
        left_quota + max(0, right_quota - len(right)),
        right_quota + max(0, left_quota - len(left)),
    )
    return [cls, *left[max(0, len(left) - left_quota) :], *tagged, *right[:right_quota], sep]


def item_ids(title: Sequence[int], text: Sequence[int], length: int, cls: int, sep: int) -> list[int]:
    """Token ids of an item, cut to `length` and not padded; the tag after the title stays."""
    return [cls, *[*title[: length - 3], TITLE, *text][: length - 2], sep]


def padded(rows: Iterable[list[int]], length: int) -> Tensor:
    """int32 [len(rows), length], zeros behind each row."""
    return torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.int32)


class Corpus:
    """Tokens of several domains, their items and queries numbered through.

    Attributes:
        queries: tokens [Q, L_q].
        items: tokens [N, L_i].
        gold: the item that a query means, [Q].
        ranges: first item of a query's domain and number of its items, [Q, 2].
    """

    def __init__(self, domains: Sequence[Domain], tokenizer: PreTrainedTokenizerBase, query_length: int, item_length: int):
        if tokenizer.convert_tokens_to_ids(["[unused0]", "[unused1]", "[unused2]"]) != [START, END, TITLE]:
            raise UserError(f"{tokenizer.name_or_path} is not a BERT vocabulary: [unused0..2] must have ids 1, 2, 3")
        special = {"cls": tokenizer.cls_token_id, "sep": tokenizer.sep_token_id}

        def ids(texts: list[str]) -> list[list[int]]:
            return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

        queries, items, gold, ranges, first = [], [], [], [], 0
        for domain in domains:
            mentions = domain.mentions
            sides = zip(
                ids([m.left for m in mentions]),
                ids([m.mention for m in mentions]),
                ids([m.right for m in mentions]),
                strict=True,
            )
            queries += [query_ids(*side, query_length, **special) for side in sides]
            entities = zip(
                ids([e.title for e in domain.entities]), ids([e.text for e in domain.entities]), strict=True
            )
            items += [item_ids(*entity, item_length, **special) for entity in entities]
            gold += [first + m.entity for m in mentions]
            ranges += [[first, len(domain.entities)]] * len(mentions)
            first += len(domain.entities)
        self.queries, self.items = padded(queries, query_length), padded(items, item_length)
        self.gold, self.ranges = torch.tensor(gold), torch.tensor(ranges)

    def items_as_queries(self, items: np.ndarray, length: int) -> Tensor:
        """Items in the query's place, [len(items), length]: what item-item baselines ask the cross-encoder."""
        tokens = self.items[torch.from_numpy(items), :length]
        return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]))


def split(queries: int, anchors: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Anchor queries, drawn at random, and all others, on which search is tested; both ascending."""
    if anchors >= queries:
        raise UserError(f"{anchors} anchor queries of {queries} queries leave none to test on: choose fewer")
    order = np.random.default_rng(seed).permutation(queries)
    return np.sort(order[:anchors]), np.sort(order[anchors:])
