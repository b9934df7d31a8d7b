"""What `make speed PAPER=llmlingua2` measures: the compressors' networks at their real sizes, a chunk of 512 tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

from common.workload import Network, Speed

TOKENS = 512
LLAMA = "LLaMA-2-7B"
XLM_R: dict[str, Any] = {
    "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "max_position_embeddings": 514, "type_vocab_size": 1, "num_labels": 2,
}  # fmt: skip
M_BERT: dict[str, Any] = {"vocab_size": 119_547, "num_labels": 2}
"""Other sizes are BERT-base's, the config's defaults."""
LLAMA_2: dict[str, Any] = {"vocab_size": 32_000, "max_position_embeddings": 4096}
"""Other sizes of the 7B model are the config's defaults."""


def speed() -> Speed:
    """Both classifiers, and the language model of the entropy baselines (bfloat16, as it is run), for one chunk."""
    appendix = "appendix H"
    return Speed(
        networks=(
            Network(LLAMA, _llama, giant=True),
            Network("XLM-RoBERTa large", _xlm_r, LLAMA, giant=True, reported={"params": 355e6}, source=appendix),
            Network("multilingual BERT", _bert, LLAMA, reported={"params": 110e6}, source=appendix),
        )
    )


def logits(net: nn.Module, ids: Tensor) -> Tensor:
    """A network of transformers on ids [B, N]. A mask of two dimensions would be looked into, on meta too."""
    seen = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
    return net(input_ids=ids, attention_mask=seen).logits


class Logits(nn.Module):
    """A network whose call takes ids [B, N] and returns logits alone."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor) -> Tensor:
        return logits(self.net, ids)


def _chunk(net: Callable[[], nn.Module]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Logits(net()).eval(), (torch.full((1, TOKENS), 7),)


def _xlm_r() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _chunk(lambda: XLMRobertaForTokenClassification(XLMRobertaConfig(**XLM_R)))


def _bert() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _chunk(lambda: BertForTokenClassification(BertConfig(**M_BERT)))


def _llama() -> tuple[nn.Module, tuple[Tensor, ...]]:
    net: Callable[[], nn.Module] = lambda: LlamaForCausalLM(LlamaConfig(**LLAMA_2, use_cache=False))  # noqa: E731
    return _chunk(lambda: net().to(torch.bfloat16))
