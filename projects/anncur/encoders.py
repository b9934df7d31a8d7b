"""Cross-encoders and the dual encoder, on transformers' BERT.

All of them score queries [B, L_q] against candidates [B, K, L_i] -> [B, K]; tokens as in `linking.py`.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, BertConfig, BertModel

from common.hub import from_pretrained
from projects.anncur.linking import END, START, TITLE

Kind = Literal["emb", "cls", "dual"]


@dataclass
class BertSizes:
    """Which BERT: a pretrained one, or one of these sizes with random weights.

    Attributes:
        pretrained: hub id, or the folder that `pretrain.py` leaves; the sizes below are not used then.
        vocab_size: tokens.
        hidden_size: width d.
        layers: transformer blocks.
        heads: attention heads.
        positions: longest input in tokens.
        dropout: of BERT's layers and attention, also of a pretrained one.
    """

    pretrained: str | None = None
    vocab_size: int = 320
    hidden_size: int = 48
    layers: int = 2
    heads: int = 4
    positions: int = 64
    dropout: float = 0.1


def bert(sizes: BertSizes, pooler: bool, load: bool) -> BertModel:
    """A BERT, with its pretrained weights if `load` is set and there are any."""
    if sizes.pretrained:
        dropout = {"hidden_dropout_prob": sizes.dropout, "attention_probs_dropout_prob": sizes.dropout}
        if load:
            return from_pretrained(BertModel, sizes.pretrained, add_pooling_layer=pooler, **dropout)
        return BertModel(from_pretrained(AutoConfig, sizes.pretrained, **dropout), add_pooling_layer=pooler)
    config = BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.hidden_size,
        max_position_embeddings=sizes.positions,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        initializer_range=0.02 * math.sqrt(768 / sizes.hidden_size),  # BERT's 0.02 belongs to its width
    )
    return BertModel(config, add_pooling_layer=pooler)


def pair_tokens(queries: Tensor, items: Tensor) -> Tensor:
    """A query and an item without its [CLS]: [B, L_q], [B, L_i] -> [B, L_q + L_i - 1]. Padding stays where it is."""
    return torch.cat([queries, items[:, 1:]], 1)


def pair_inputs(tokens: Tensor, first_segment: int) -> dict[str, Tensor]:
    """BERT's inputs for pairs [B, L]: segment 1 from position `first_segment` on; padding is masked, and segment 0."""
    mask = tokens != 0
    second = torch.arange(tokens.shape[1], device=tokens.device) >= first_segment
    return {"input_ids": tokens.long(), "attention_mask": mask.long(), "token_type_ids": (mask & second).long()}


def tag_embeddings(tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """[EMB]-CE: contextual embeddings of query and item, read off a pair's last layer.

    Args:
        tokens: [B, L], with one of each tag.
        hidden: last layer, [B, L, d].

    Returns:
        Query: mean over the two tags of the mention, [B, d]. Item: at the tag after the title, [B, d].
    """
    rows = torch.arange(len(tokens), device=tokens.device)
    start, end, title = ((tokens == tag).int().argmax(1) for tag in (START, END, TITLE))
    return (hidden[rows, start] + hidden[rows, end]) / 2, hidden[rows, title]


class CrossEncoder(nn.Module):
    """f(query, item), both read together: "emb" a dot product of two contextual embeddings, "cls" a linear layer."""

    def __init__(self, kind: Literal["emb", "cls"], sizes: BertSizes, load: bool = True):
        super().__init__()
        self.kind = kind
        self.bert = bert(sizes, pooler=kind == "cls", load=load)
        if kind == "cls":
            self.dropout, self.head = nn.Dropout(0.1), nn.Linear(self.bert.config.hidden_size, 1)

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """Tokens [B, L_q] and [B, K, L_i] -> scores [B, K]."""
        batch, candidates, _ = items.shape
        tokens = pair_tokens(repeat(queries, "b l -> (b k) l", k=candidates), rearrange(items, "b k l -> (b k) l"))
        outputs = self.bert(**pair_inputs(tokens, queries.shape[1]))
        if self.kind == "cls":
            with full_precision(tokens.device):
                pooled = self.dropout(outputs.pooler_output.float())
                scores = F.linear(pooled, self.head.weight.float(), self.head.bias.float())[:, 0]
        else:
            query, item = tag_embeddings(tokens, outputs.last_hidden_state)
            scores = dot_scores(query, item[:, None])[:, 0]
        return scores.view(batch, candidates)


class DualEncoder(nn.Module):
    """Two BERTs; the score is the dot product of their [CLS] vectors."""

    def __init__(self, sizes: BertSizes, load: bool = True):
        super().__init__()
        self.query = bert(sizes, pooler=False, load=load)
        self.item = bert(sizes, pooler=False, load=load)

    def embed(self, tower: Literal["query", "item"], tokens: Tensor) -> Tensor:
        """[B, L] -> [B, d]."""
        encoder = self.query if tower == "query" else self.item
        return encoder(input_ids=tokens.long(), attention_mask=(tokens != 0).long()).last_hidden_state[:, 0]

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """Tokens [B, L_q] and [B, K, L_i] -> scores [B, K]."""
        candidates = self.embed("item", rearrange(items, "b k l -> (b k) l"))
        candidates = rearrange(candidates, "(b k) d -> b k d", b=len(items))
        return dot_scores(self.embed("query", queries), candidates)

    @torch.no_grad()
    def embed_all(self, tower: Literal["query", "item"], tokens: Tensor, batch_size: int = 512) -> Tensor:
        """Embeddings of many texts, [N, L] -> float32 [N, d], computed on the model's device, in its training mode."""
        device = self.item.device
        return torch.cat([self.embed(tower, part.to(device)).float() for part in tokens.split(batch_size)])


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Where scores are computed, whatever the trainer's precision: rounded to half precision, most of them tie."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def dot_scores(queries: Tensor, items: Tensor) -> Tensor:
    """Embeddings of each query's own items: [B, d] and [B, K, d] -> float32 [B, K]."""
    with full_precision(queries.device):
        return torch.einsum("bd,bkd->bk", queries.float(), items.float())


def all_scores(queries: Tensor, items: Tensor) -> Tensor:
    """Embeddings of items that all queries share: [Q, d] and [N, d] -> float32 [Q, N]."""
    with full_precision(queries.device):
        return queries.float() @ items.float().T


def build(kind: Kind, sizes: BertSizes, load: bool = True) -> CrossEncoder | DualEncoder:
    """An encoder of either kind."""
    return DualEncoder(sizes, load) if kind == "dual" else CrossEncoder(kind, sizes, load)
