"""Text classifiers: transformers' classes, from the hub or with random weights."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
)

from common.hub import from_pretrained


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier: a pretrained encoder, or the sizes of a BERT.

    Attributes:
        pretrained: hub id or folder of an encoder, which gets a new head; None for a BERT of these sizes.
        hidden: width; the feed-forward layers have four times as much.
        layers: transformer blocks.
        heads: attention heads.
        dropout: of hidden states, attention weights and the pooled output.
    """

    pretrained: str | None = None
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1


def build_classifier(config: ClassifierConfig, classes: int, tokens: int, load: bool = True) -> PreTrainedModel:
    """Token ids [B, N] -> logits [B, classes], in training mode.

    Args:
        tokens: size of the vocabulary, for a BERT with random weights.
        load: False leaves a pretrained encoder's weights where they are: the caller has others.

    Raises:
        UserError: the pretrained encoder is not there.
    """
    if config.pretrained is None:
        sizes: dict[str, Any] = {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
        sizes |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
        sizes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
        sizes["initializer_range"] = config.hidden**-0.5  # BERT's 0.02 suits its width of 768 and stalls narrow nets
        return BertForSequenceClassification(BertConfig(vocab_size=tokens, num_labels=classes, **sizes)).train()
    auto = AutoModelForSequenceClassification
    if load:
        model = from_pretrained(auto, config.pretrained, num_labels=classes, dtype=torch.float32)
    else:
        model = auto.from_config(from_pretrained(AutoConfig, config.pretrained, num_labels=classes))
    return model.train()
