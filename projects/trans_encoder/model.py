"""Bi-encoder and cross-encoder: two ways in which one pretrained encoder scores a pair of sentences (§2)."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
import transformers
from einops import einsum, rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from common.data.pairs import Pair
from common.data.tokenizers import load_tokenizer
from common.hub import from_pretrained

Kind = Literal["bi", "cross"]
Pooling = Literal["cls", "mean"]
Tokens = dict[str, Tensor]
"""What a tokenizer returns: input_ids, attention_mask, ... [B, N]."""


class PairModel(nn.Module, ABC):
    """A model of sentence pairs, with its tokenizer.

    Attributes:
        net: one of transformers' encoders.
        tokenizer: the one that goes with it.
    """

    net: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def forward(self, pairs: list[Pair]) -> Tensor:
        """What the training loss is made of, [B] in float32."""

    @abstractmethod
    def score(self, pairs: list[Pair]) -> Tensor:
        """Similarities, [B]."""

    def save(self, folder: object) -> None:
        """Write net and tokenizer as `from_pretrained` reads them."""
        self.net.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _tokens(self, first: list[str], second: list[str] | None, length: int) -> Tokens:
        tokens = self.tokenizer(first, second, truncation=True, max_length=length, padding=True, return_tensors="pt")
        return {name: value.to(self.net.device) for name, value in tokens.items()}


class BiEncoder(PairModel):
    """The cosine of two sentence embeddings; each sentence is encoded by itself.

    Args:
        source: hub id or folder of an encoder; heads it may have are left out.
        pooling: what stands for a sentence in the last layer: its first token, or the mean of its tokens.
        length: longer sentences are cut to this many tokens.
        dropout: of all layers; None for what the encoder was made with.
    """

    def __init__(self, source: str, pooling: Pooling = "cls", length: int = 32, dropout: float | None = None):
        super().__init__()
        self.net = pretrained(AutoModel, source, dropout)
        if (
            getattr(self.net, "pooler", None) is not None
        ):  # not used here; a cross-encoder made of this one goes on with it
            self.net.pooler.requires_grad_(False)
        self.tokenizer, self.pooling, self.length = load_tokenizer(source), pooling, length

    def embed(self, sentences: list[str]) -> Tensor:
        """[B, D] in float32."""
        tokens = self._tokens(sentences, None, self.length)
        hidden = self.net(**tokens).last_hidden_state.float()
        return pool(hidden, tokens["attention_mask"], self.pooling)

    def forward(self, pairs: list[Pair]) -> Tensor:
        both = self.embed([pair.a for pair in pairs] + [pair.b for pair in pairs])
        return cosine(*rearrange(both, "(two b) d -> two b d", two=2))

    def score(self, pairs: list[Pair]) -> Tensor:
        return self(pairs)


class CrossEncoder(PairModel):
    """One logit for "[CLS] a [SEP] b [SEP]": the two sentences attend to each other in every layer.

    Args:
        source: hub id or folder of an encoder; it gets a new head, unless it is a cross-encoder itself.
        length: longer pairs are cut to this many tokens.
        load: False for random weights.
        dropout: of all layers; None for what the encoder was made with.
    """

    def __init__(self, source: str, length: int = 64, load: bool = True, dropout: float | None = None):
        super().__init__()
        self.net = pretrained(AutoModelForSequenceClassification, source, dropout, num_labels=1)
        if not load:
            self.net = type(self.net)(self.net.config)
        self.tokenizer, self.length = load_tokenizer(source), length

    def forward(self, pairs: list[Pair]) -> Tensor:
        tokens = self._tokens([pair.a for pair in pairs], [pair.b for pair in pairs], self.length)
        return rearrange(self.net(**tokens).logits.float(), "b 1 -> b")

    def score(self, pairs: list[Pair]) -> Tensor:
        return self(pairs).sigmoid()


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Of sentence vectors [B, D]: from -1 to 1, [B]. It is the bi-encoder's similarity and, unscaled, its label."""
    return F.cosine_similarity(u, v, dim=-1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """L_BCE = -1/B sum y log s(x) + (1 - y) log(1 - s(x)) of logits x and soft labels y, [B]."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def squared_error(similarities: Tensor, labels: Tensor) -> Tensor:
    """L_MSE = 1/B sum (similarity - label)^2, [B]."""
    return F.mse_loss(similarities, labels)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Token vectors [B, N, D] -> sentence vectors [B, D]; `mask` [B, N] is 0 at padding."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.to(hidden.dtype)
    return einsum(hidden, weights, "b n d, b n -> b d") / reduce(weights, "b n -> b 1", "sum")


def load_pair_model(
    kind: Kind, source: str, pooling: Pooling = "cls", load: bool = True, dropout: float | None = None
) -> PairModel:
    """A bi- or cross-encoder from a hub id or folder; either can be made from the other: they share the encoder."""
    if kind == "bi":
        return BiEncoder(source, pooling, dropout=dropout)
    return CrossEncoder(source, load=load, dropout=dropout)


def pretrained(auto: type, source: str, dropout: float | None = None, **settings: object) -> PreTrainedModel:
    """A model of `auto`'s kind in training mode, with the weights of a hub id or folder.

    Raises:
        UserError: there is nothing at `source`.
    """
    transformers.utils.logging.set_verbosity_error()  # a new head is what we want, no reason for a warning
    transformers.utils.logging.disable_progress_bar()
    if dropout is not None:
        settings |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return from_pretrained(auto, source, dtype=torch.float32, **settings).train()


@torch.no_grad()
def score_pairs(model: PairModel, pairs: list[Pair], batch_size: int = 256) -> Tensor:
    """Similarities of any number of pairs, [N] on the CPU, without dropout."""
    training = model.training
    model.eval()
    scores = [model.score(pairs[k : k + batch_size]).cpu() for k in range(0, len(pairs), batch_size)]
    model.train(training)
    return torch.cat(scores)
