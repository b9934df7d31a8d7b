"""What Emo Pillars' stages do at paper scale, for `make plan`: networks without values, and a step through them.

Every text counts as long as the longest that is let through, so times are upper bounds. Of a prompt and its answer
every token is read once (a cache has the earlier ones); that the answer's are written one by one is not counted.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, MistralConfig, MistralForCausalLM

from common.models.text_classifier import head_loss
from common.recipe import Stage
from common.workload import Workload
from projects.emo_pillars.harness.speed import LARGE, large
from projects.emo_pillars.prompts import EMOTIONAL, MAX_TOKENS, NEUTRAL

CLASSES = LARGE["num_labels"]
PLOTS, ACTORS = 2000, 15
UTTERANCES = PLOTS * ACTORS * (EMOTIONAL + NEUTRAL)
RECORDS = {"characters": PLOTS, "utterances": PLOTS * ACTORS, "levels": UTTERANCES, "contexts": UTTERANCES // 3}
PROMPT = {"characters": 900, "utterances": 1300, "levels": 500, "context": 1000, "clean": 250, "rewrite": 250}
"""Tokens of a prompt, plots of some 700 tokens among them: an estimate."""
WRITTEN = {"characters": ("characters",), "utterances": ("utterances",), "levels": ("levels",)}
TRAINED = {"contextless": 240_000, "contextual": 180_000, "tune": 43_410, "tune_isear": 5300, "tune_emocontext": 30_160}
TESTED = {
    "evaluate": 10_853 + 60_000, "evaluate_contextual": 20_000, "evaluate_isear": 2300, "evaluate_emocontext": 8264,
    "evaluate_released": 10_853,
}  # fmt: skip
"""Texts to train on, and to test on, those for the threshold among them."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    if stage.name in RECORDS:
        return _generate(stage.name, config["data"]["batch_size"])
    length, net = config["data"]["max_length"], _classifier(config["model"].get("net") or {})
    step = _Reading(net, length, stage.run == "fit")
    if stage.run == "test":
        return Workload(net.requires_grad_(False).eval(), step, EVALUATED, TESTED[stage.name], unit="text")
    return Workload(net, step, config["data"]["batch_size"], TRAINED[stage.name], unit="text")


EVALUATED = 128
"""Texts of a step that nothing learns from (`data.EmotionTests`)."""


def _classifier(config: dict[str, Any]) -> nn.Module:
    if "/bert-" in (config.get("pretrained") or ""):
        sizes = {**LARGE, "vocab_size": 30522, "max_position_embeddings": 512}
        return BertForSequenceClassification(BertConfig(**sizes))
    return large(config.get("token_types") or 1)


class _Reading:
    """A step through a classifier, and its loss where something is learned."""

    def __init__(self, net: nn.Module, length: int, learns: bool):
        self.net, self.length, self.learns = net, length, learns

    def __call__(self, n: int) -> Tensor:
        ids = torch.zeros(n, self.length, dtype=torch.long)
        found = self.net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
        return head_loss(found, torch.zeros(n, CLASSES)) if self.learns else found


def _generate(step: str, batch: int) -> Workload:
    """Mistral's 7 B parameters in bfloat16; a record's prompts are read and its answers written."""
    with torch.device("meta"):
        sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
        net = MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=8, vocab_size=32000)).bfloat16()
    tasks = WRITTEN.get(step, ("context", "clean", "rewrite"))
    tokens = sum(PROMPT[task] + MAX_TOKENS[task] for task in tasks)

    def answer(n: int) -> Tensor:
        ids = torch.zeros(n, tokens, dtype=torch.long)
        hidden = net.model(input_ids=ids, use_cache=False).last_hidden_state
        return F.linear(hidden, net.lm_head.weight)[:, -1]

    reported = "450 H100 hours for all steps" if step == "contexts" else ""
    return Workload(net.requires_grad_(False).eval(), answer, batch, RECORDS[step], unit="record", reported=reported)
