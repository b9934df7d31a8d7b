"""What `make speed PAPER=emo_pillars` measures: the classifier at its real size, and how fast pairs become tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from common.data.classified import all_texts, collate
from common.data.text import scored
from common.data.tokenizers import build_wordpieces
from common.workload import Network, Source, Speed
from projects.emo_pillars.grammar import generator, plot, remark

LARGE = {
    "vocab_size": 50265, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "max_position_embeddings": 514, "num_labels": 28,
}  # fmt: skip
"""Of RoBERTa-large."""
TOKENS, BATCH = 128, 32


def speed() -> Speed:
    """One text of the context-less classifier's longest; batches of contexts and utterances."""
    network = Network(
        "RoBERTa-large classifier",
        _classifier,
        giant=True,
        reported={"params": 4e8},
        source="model cards, rounded to 0.4 B",
    )
    return Speed(networks=(network,), sources=(Source(f"contexts and utterances, a batch of {BATCH}", _batches),))


def large(types: int = 2) -> RobertaForSequenceClassification:
    return RobertaForSequenceClassification(RobertaConfig(**LARGE, type_vocab_size=types))


def _classifier() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return large().eval(), (torch.randint(3, 50000, (1, TOKENS), generator=torch.Generator().manual_seed(0)),)


def _batches(folder: Path) -> Callable[[int], Any]:
    texts = [scored(plot(generator(k)), remark(generator(k)).text, (0.0, 1.0)) for k in range(32 * BATCH)]
    tokenizer = build_wordpieces(all_texts(texts), 1000)
    return lambda i: collate([texts[(i * BATCH + k) % len(texts)] for k in range(BATCH)], tokenizer, 64, keep_pair=True)
