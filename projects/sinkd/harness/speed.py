"""What `make speed PAPER=sinkd` measures: teacher and student at their real sizes, and how fast texts become tokens.

The paper's page holds no figure of time or memory; parameters are those that the released models' names give.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from common.data.classified import all_texts, collate
from common.data.tokenizers import build_wordpieces
from common.workload import Network, Source, Speed
from projects.sinkd.world import Sentences

TOKENS = 128  # of the paper's longest input
BATCH = 16


def speed() -> Speed:
    """BERT-base beside the student of six layers, for one text; and batches of the world of sentences."""
    teacher = "BERT-base, 12 layers"
    return Speed(
        networks=(Network(teacher, lambda: _bert(12)), Network("student, 6 layers", lambda: _bert(6), teacher)),
        sources=(Source(f"world of sentences, a batch of {BATCH}", _batches),),
    )


def _bert(layers: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """BERT's own sizes are the config's defaults."""
    net = BertForSequenceClassification(BertConfig(num_hidden_layers=layers, num_labels=2)).eval()
    return net, (torch.randint(1000, 30000, (1, TOKENS), generator=torch.Generator().manual_seed(0)),)


def _batches(folder: Path) -> Callable[[int], Any]:
    texts = Sentences(train=64 * BATCH).read("train")
    tokenizer = build_wordpieces(all_texts(texts), 1000)
    return lambda i: collate([texts[(i * BATCH + k) % len(texts)] for k in range(BATCH)], tokenizer, TOKENS)
