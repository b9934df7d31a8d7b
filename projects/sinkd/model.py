"""Text classifiers: transformers' classes, from the hub or with random weights."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPTNeoConfig,
    GPTNeoForSequenceClassification,
    PreTrainedModel,
)

from common.hub import from_pretrained

PAD = 0  # of BERT's tokenizers, and of those that `common.data.tokenizers` builds


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier: a pretrained encoder, or the sizes of a BERT or a GPT-Neo.

    Attributes:
        pretrained: hub id or folder of an encoder, which gets a new head; None for a network of these sizes.
        family: BERT reads a text in both directions; GPT-Neo, decoder-only, classifies by the last token's state.
        hidden: width; the feed-forward layers have four times as much.
        layers: transformer blocks.
        heads: attention heads.
        dropout: of hidden states, attention weights and the pooled output.
    """

    pretrained: str | None = None
    family: Literal["bert", "gpt_neo"] = "bert"
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1


def build_classifier(config: ClassifierConfig, classes: int, tokens: int, load: bool = True) -> PreTrainedModel:
    """Token ids [B, N] -> logits [B, classes], in training mode.

    Args:
        tokens: size of the vocabulary, for a network with random weights.
        load: False leaves a pretrained encoder's weights where they are: the caller has others.

    Raises:
        UserError: the pretrained encoder is not there.
    """
    if config.pretrained is None:
        return (_bert if config.family == "bert" else _gpt_neo)(config, classes, tokens).train()
    auto = AutoModelForSequenceClassification
    if load:
        model = from_pretrained(auto, config.pretrained, num_labels=classes, dtype=torch.float32)
    else:
        model = auto.from_config(from_pretrained(AutoConfig, config.pretrained, num_labels=classes))
    return model.train()


def _bert(config: ClassifierConfig, classes: int, tokens: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
    sizes |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
    sizes |= {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    sizes["initializer_range"] = config.hidden**-0.5  # BERT's 0.02 suits its width of 768 and stalls narrow nets
    return BertForSequenceClassification(BertConfig(vocab_size=tokens, num_labels=classes, **sizes))


def _gpt_neo(config: ClassifierConfig, classes: int, tokens: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_size": config.hidden, "intermediate_size": 4 * config.hidden}
    sizes |= {"attention_types": [[["global"], config.layers]], "num_layers": config.layers, "num_heads": config.heads}
    sizes |= {f"{part}_dropout": config.dropout for part in ("resid", "embed", "attention", "classifier")}
    sizes |= {"initializer_range": config.hidden**-0.5, "max_position_embeddings": 512}
    sizes |= {"pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None}
    return GPTNeoForSequenceClassification(GPTNeoConfig(vocab_size=tokens, num_labels=classes, **sizes))
