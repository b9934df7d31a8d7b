"""What Trans-Encoder's stages do at paper scale, for `make plan`: networks without values, and a step through them.

Every sentence counts as long as the longest that is let through, so times are upper bounds: sentences of the STS sets
have 11 words on average. The teachers' labels, one forward pass over the pairs, are not counted.
"""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from common.losses.contrastive import info_nce
from common.recipe import Stage
from common.workload import Workload
from projects.trans_encoder.model import Kind, cosine, cross_entropy, pool, squared_error

SENTENCE, BOTH = 32, 64
"""Tokens of a sentence, and of a pair."""
PAIRS = {"": 37_081, "qqp": 21_000, "qnli": 15_463, "mrpc": 5_801}
"""Pairs without scores, by task with classes and else of STS, STS-B and SICK together (Table 15)."""
GOLD = 5_749
"""STS-B's training pairs."""
SCORED = {
    "evaluate": 20_350,
    "evaluate_qqp": 11_000,
    "evaluate_qnli": 5_463,
    "evaluate_mrpc": 2_133,
    "evaluate_transfer": 17_688,
}
"""Scored pairs of an evaluation's test sets and of the set that it chooses by."""
HOURS = {"base": {"": 0.5, "qqp": 1.0, "qnli": 0.5, "mrpc": 0.25}, "large": {"": 1.5}}
"""Of all cycles of a self-distillation on one GPU (Table 10)."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    if stage.run == "test":
        return _evaluation(model, SCORED[stage.name])
    task = data["train"]["init_args"].get("task", "")
    rows = (GOLD if stage.name == "supervised_cross" else PAIRS[task]) * (2 if data.get("both_orders") else 1)
    if stage.name.startswith("contrast"):
        net = encoder("bi", model["start"])
        width = net.config.hidden_size
        head = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        step = lambda n: info_nce(head(embed(net, n)), head(embed(net, n)), model["temperature"])  # noqa: E731
        return Workload(nn.ModuleList([net, head]), step, data["batch_size"], rows, unit="sentence")
    student = encoder(model["student"], model["start"])
    loss = cross_entropy if model["loss"] == "bce" else squared_error
    return Workload(
        student,
        lambda n: loss(scores(student, model["student"], n), torch.zeros(n)),
        data["batch_size"],
        rows,
        unit="pair",
        reported=f"all cycles {HOURS[size_of(model['start'])][task]} h on 1 GPU, V100, A100 or 3090 alike (Table 10)",
    )


def _evaluation(model: dict[str, Any], pairs: int) -> Workload:
    """Every model of every cycle scores every pair. Word overlap has none; one multiplication stands for it."""
    kinds: dict[str, Kind] = {"bi": "bi", "partner_bi": "bi", "cross": "cross", "partner_cross": "cross"}
    sources = [(kind, source) for group, kind in kinds.items() for source in model.get(group, {}).values()]
    sources += [("bi", model[name]) for name in ("start", "partner_start") if name in model]
    nets = nn.ModuleList([encoder(kind, source) for kind, source in sources] or [nn.Linear(1, 1)])

    def step(n: int) -> Any:
        if not sources:
            return nets[0](torch.zeros(n, 1))
        return [scores(net, kind, n) for net, (kind, _) in zip(nets, sources, strict=True)]

    return Workload(nets.requires_grad_(False).eval(), step, 128, pairs, unit="pair")


def encoder(kind: Kind, source: str) -> Any:
    """BERT or RoBERTa, base or large, as the hub id says, as a bi- or a cross-encoder."""
    sizes: dict[str, Any] = {"num_labels": 1}
    if size_of(source) == "large":
        sizes |= {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    if "roberta" in source:
        config: Any = transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **sizes
        )
        single, pair = transformers.RobertaModel, transformers.RobertaForSequenceClassification
    else:
        config = transformers.BertConfig(**sizes)
        single, pair = transformers.BertModel, transformers.BertForSequenceClassification
    return pair(config) if kind == "cross" else single(config, add_pooling_layer=False)


def size_of(source: str) -> str:
    """Base or large."""
    return "large" if "large" in source else "base"


def embed(net: Any, sentences: int) -> Tensor:
    """`BiEncoder.embed` of made-up sentences without padding, [n, D]."""
    tokens = torch.zeros(sentences, SENTENCE, dtype=torch.long)
    return pool(net(input_ids=tokens).last_hidden_state.float(), tokens, "cls")


def scores(net: Any, kind: Kind, pairs: int) -> Tensor:
    """`PairModel.forward` of made-up pairs without padding, [n]."""
    if kind == "bi":
        return cosine(*embed(net, 2 * pairs).chunk(2))
    return net(input_ids=torch.zeros(pairs, BOTH, dtype=torch.long)).logits[:, 0].float()
