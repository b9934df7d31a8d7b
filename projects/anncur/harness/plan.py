"""What ANNCUR's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from common.recipe import Stage
from common.workload import Workload
from projects.anncur.distill import match_loss
from projects.anncur.encoders import BertSizes, CrossEncoder, DualEncoder, build, dot_scores
from projects.anncur.ranker import Ranker, positive_first

BASE = BertSizes(vocab_size=30522, hidden_size=768, layers=12, heads=12, positions=512)
"""bert-base-uncased, whose sizes the configs leave to the hub."""

MENTIONS = 49275  # of the 8 training worlds
SEARCHED = {
    "yugioh": (3374, 10031),
    "pro_wrestling": (1392, 10133),
    "star_trek": (4227, 34430),
    "doctor_who": (8334, 40281),
    "military": (13063, 104520),
}
"""Mentions and entities of the searched worlds (utils/zeshel_utils.py of the official code)."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    if stage.run == "fit":
        return _training(config, distilled=stage.name.startswith("distill"))
    model, data = config["model"], config["data"]
    lengths = data["query_length"], data["item_length"]
    queries, entities = SEARCHED[data["search"]]
    if stage.run == "predict":
        cross = CrossEncoder(model["kind"], BASE).requires_grad_(False).eval()
        rows = data["item_rows"] if model.get("rows") == "items" else data.get("search_mentions") or queries
        return Workload(cross, lambda n: _scores(cross, n, 1, *lengths), model["pairs"], rows * entities, unit="pair")
    dual = DualEncoder(BASE).requires_grad_(False).eval()
    return Workload(dual, lambda n: _scores(dual, n, 1, *lengths), 512, entities, unit="item")


def _training(config: dict[str, Any], distilled: bool) -> Workload:
    model, data = config["model"], config["data"]
    net = DualEncoder(BASE) if distilled else build(model["kind"], BASE)
    Ranker(net, model["lr"], model["weight_decay"], model["warmup"], model["train_embeddings"])  # freezes embeddings
    loss: Callable[[Tensor], Tensor] = positive_first
    candidates, samples, unit = model.get("negatives", 0) + 1, MENTIONS, "query"
    if distilled:
        candidates, samples = model["top"], data["anchor_queries"] - data["anchor_queries"] // 10
        if model["loss"] == "triplet":
            candidates, samples, unit = 2, samples * model["top"], "triplet"
        else:
            loss = lambda scores: match_loss(scores, torch.zeros_like(scores))  # noqa: E731
    return Workload(
        net,
        lambda n: loss(_scores(net, n, candidates, data["query_length"], data["item_length"])),
        data["batch_size"],
        samples,
        unit=unit,
        workers=data["num_workers"],
        reported="2 GPUs; hours not found (launch scripts)" if distilled else "",
    )


def _scores(net: CrossEncoder | DualEncoder, queries: int, items: int, query_length: int, item_length: int) -> Tensor:
    """The encoders' `forward` for made-up tokens [n, L_q] and [n, items, L_i] without padding -> [n, items].

    transformers looks at the values of a padding mask, which these tensors have not; its work would be the same.
    """

    def ids(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.long)

    if isinstance(net, DualEncoder):
        query = net.query(input_ids=ids(queries, query_length)).last_hidden_state[:, 0]
        item = net.item(input_ids=ids(queries * items, item_length)).last_hidden_state[:, 0]
        return dot_scores(query, rearrange(item, "(b k) d -> b k d", b=queries))
    outputs = net.bert(input_ids=ids(queries * items, query_length + item_length - 1))
    hidden = outputs.last_hidden_state
    scores = net.head(outputs.pooler_output)[:, 0] if net.kind == "cls" else (hidden[:, 0] * hidden[:, 1]).sum(-1)
    return scores.view(queries, items)
