"""What LLMLingua-2's stages do at paper scale, for `make plan`: networks without values, and a step through them.

Every chunk counts as long as the longest that is let through; most are shorter. Language models that write (the
teacher, the reader) are counted as if they were told their own words: one pass over prompt and answer.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

from common.recipe import Stage
from common.workload import Workload
from projects.llmlingua2.harness.speed import LLAMA_2, M_BERT, XLM_R, logits

CHUNKS = 41_746
"""That GPT-4 compressed (Table 8); about four in five of them pass quality control."""
TRANSCRIPTS, QUESTIONS, TOKENS = 862, 3, 3_003
"""MeetingBank's test set; tokens of a transcript (Table 1)."""
ASKED, WRITTEN = 800, 240
"""Tokens of the teacher's instruction with a chunk, and of its answer (2.57 times shorter than the chunk, Table 8)."""
QWEN: dict[str, Any] = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18_944, "vocab_size": 152_064,
}  # fmt: skip
HOURS = {"XLM-RoBERTa": "about 23 h (appendix H)", "multilingual BERT": "about 16 h (appendix H)"}


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    if stage.name == "distill":
        teacher = _frozen(Qwen2ForCausalLM(Qwen2Config(**QWEN, use_cache=False)))
        asked = lambda n: _logits(teacher, n, ASKED + WRITTEN)  # noqa: E731
        return Workload(teacher, asked, data["batch_size"], CHUNKS, unit="chunk")
    if stage.run == "test":
        return _evaluate(model)
    net = _classifier(model["encoder"])
    length = data["max_length"]

    def step(n: int) -> Tensor:
        return F.cross_entropy(_logits(net, n, length).flatten(0, 1), torch.zeros(n * length, dtype=torch.long))

    samples = round(CHUNKS * 0.81 * (1 - data["validation"]))
    name = "XLM-RoBERTa" if "xlm" in model["encoder"] else "multilingual BERT"
    return Workload(net, step, data["batch_size"], samples, unit="chunk", reported=HOURS[name])


def _classifier(name: str) -> PreTrainedModel:
    if "xlm" in name:
        return XLMRobertaForTokenClassification(XLMRobertaConfig(**XLM_R))
    return BertForTokenClassification(BertConfig(**M_BERT))


def _frozen(net: nn.Module) -> Any:
    return net.to(torch.bfloat16).requires_grad_(False).eval()


def _logits(net: nn.Module, n: int, length: int) -> Tensor:
    return logits(net, torch.zeros(n, length, dtype=torch.long))


def _evaluate(model: dict[str, Any]) -> Workload:
    """A transcript is compressed, by a classifier, by a language model or not at all, and read for each question."""
    reader = _frozen(MistralForCausalLM(MistralConfig(use_cache=False)))
    nets = nn.ModuleDict({"reader": reader})
    if model["method"] == "llmlingua2":
        nets["compressor"] = _classifier("bert" if "bert-base" in str(model["compressor"]) else "xlm").eval()
        nets["compressor"].requires_grad_(False)
    elif model["method"] in ("selective_context", "llmlingua"):
        nets["compressor"] = _frozen(LlamaForCausalLM(LlamaConfig(**LLAMA_2, use_cache=False)))
    rate = 1.0 if model["method"] == "full" else model["rates"][0]
    left = round(TOKENS * rate)

    def step(n: int) -> list[Tensor]:
        done = [_logits(nets["compressor"], n, 512) for _ in range(TOKENS // 512)] if "compressor" in nets else []
        return done + [_logits(reader, n, left) for _ in range(QUESTIONS)]

    return Workload(nets, step, 1, TRANSCRIPTS, unit="transcript")
