"""Text classifiers: transformers' classes, from the hub or with random weights, with one answer or several.

net = build_classifier(ClassifierConfig(pretrained="FacebookAI/roberta-large", token_types=2), 28, 0)
loss = head_loss(logits(net, batch), batch["labels"])
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPTNeoConfig,
    GPTNeoForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from common.errors import UserError
from common.hub import from_pretrained

PAD = 0  # of BERT's tokenizers, and of those that `common.data.tokenizers` builds


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier: a pretrained encoder, or the sizes of a BERT, a RoBERTa or a GPT-Neo.

    Attributes:
        pretrained: hub id or folder of an encoder, which gets a new head; None for a network of these sizes.
        family: BERT and RoBERTa read a text in both directions; GPT-Neo, decoder-only, classifies by the last token's
            state.
        hidden: width; the feed-forward layers have four times as much.
        layers: transformer blocks.
        heads: attention heads.
        dropout: of hidden states, attention weights and the pooled output.
        token_types: kinds of tokens that are told apart (context and text); a pretrained encoder that has fewer begins
            with copies of its first. None: what the encoder has, BERT's 2, RoBERTa's 1.
    """

    pretrained: str | None = None
    family: Literal["bert", "roberta", "gpt_neo"] = "bert"
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    token_types: int | None = None


def build_classifier(config: ClassifierConfig, classes: int, tokens: int, load: bool = True) -> PreTrainedModel:
    """Token ids [B, N] -> logits [B, classes], in training mode.

    Args:
        tokens: size of the vocabulary, for a network with random weights.
        load: False leaves a pretrained encoder's weights where they are: the caller has others.

    Raises:
        UserError: the pretrained encoder is not there.
    """
    if config.pretrained is None:
        if config.token_types is not None and config.family == "gpt_neo":
            raise UserError("net.token_types: a GPT-Neo tells no kinds of tokens apart, leave it out")
        build = {"bert": _bert, "roberta": _roberta, "gpt_neo": _gpt_neo}[config.family]
        return build(config, classes, tokens).train()
    auto = AutoModelForSequenceClassification
    if load:
        model = from_pretrained(auto, config.pretrained, num_labels=classes, dtype=torch.float32)
    else:
        model = auto.from_config(from_pretrained(AutoConfig, config.pretrained, num_labels=classes))
    if config.token_types is not None:
        grow_token_types(model, config.token_types)
    return model.train()


def grow_token_types(net: PreTrainedModel, count: int) -> None:
    """Let an encoder tell `count` kinds of tokens apart: new rows of its embedding are copies of the first.

    Raises:
        UserError: it has more of them, or cannot have any.
    """
    embeddings = getattr(net.base_model, "embeddings", None)
    old = getattr(embeddings, "token_type_embeddings", None)
    if not isinstance(old, nn.Embedding) or embeddings is None:
        raise UserError(f"net.token_types: {type(net).__name__} tells no kinds of tokens apart, leave it out")
    have = old.num_embeddings
    if have > count:
        raise UserError(f"net.token_types is {count}, the encoder has {have}: give {have}, or leave it out")
    if have < count:
        rows = torch.cat([old.weight.data, old.weight.data[:1].expand(count - have, -1)])
        embeddings.token_type_embeddings = nn.Embedding.from_pretrained(rows, freeze=False)
        net.config.type_vocab_size = count


def logits(net: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """A classifier's logits [B, C] in float32, whatever the precision of the network."""
    # GPT-Neo has no token types, RoBERTa as it is published a single one
    unread = {"labels"} if getattr(net.config, "type_vocab_size", 0) > 1 else {"labels", "token_type_ids"}
    inputs = {name: value for name, value in batch.items() if name not in unread}
    return net(**inputs).logits.float()


def head_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits [B, C]: cross-entropy to classes [B]; where texts have several classes, binary cross-entropy to scores
    [B, C] behind a sigmoid, the mean over batch and classes."""
    if labels.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits, labels)


def probabilities(logits: Tensor, several: bool) -> Tensor:
    """Of logits [B, C]: each class by itself (a sigmoid), or one of all (a softmax)."""
    return logits.sigmoid() if several else logits.softmax(-1)


def _bert(config: ClassifierConfig, classes: int, tokens: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": tokens, "num_labels": classes}
    sizes |= {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
    sizes |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
    sizes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    sizes["initializer_range"] = config.hidden**-0.5  # BERT's 0.02 suits its width of 768 and stalls narrow nets
    sizes["type_vocab_size"] = config.token_types or 2
    return BertForSequenceClassification(BertConfig(**sizes))


def _roberta(config: ClassifierConfig, classes: int, tokens: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": tokens, "num_labels": classes}
    sizes |= {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
    sizes |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
    sizes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    sizes |= {"initializer_range": config.hidden**-0.5, "max_position_embeddings": 514}
    sizes |= {"type_vocab_size": config.token_types or 1, "pad_token_id": PAD}
    return RobertaForSequenceClassification(RobertaConfig(**sizes))


def _gpt_neo(config: ClassifierConfig, classes: int, tokens: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": tokens, "num_labels": classes}
    sizes |= {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
    sizes |= {"attention_types": [[["global"], config.layers]], "num_layers": config.layers, "num_heads": config.heads}
    sizes |= {f"{part}_dropout": config.dropout for part in ("resid", "embed", "attention", "classifier")}
    sizes |= {"initializer_range": config.hidden**-0.5, "max_position_embeddings": 512}
    sizes |= {"pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None}
    return GPTNeoForSequenceClassification(GPTNeoConfig(**sizes))
