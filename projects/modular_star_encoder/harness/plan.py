"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.losses.contrastive import clip_loss
from common.recipe import Stage
from common.workload import Workload
from projects.modular_star_encoder.clones import Classifier
from projects.modular_star_encoder.harness.cost import PAPER_TOKENS
from projects.modular_star_encoder.model import (
    MultiExitEncoder,
    PretrainingHeads,
    Trunk,
    TrunkSizes,
    exit_weights,
    pool,
)

WINDOWS = 490_000_000  # of 2,048 tokens: the paper's 1 T tokens, gone over once
TRIPLETS = 1_071_367
CLONES, CLONES_TEST = 901_028, 415_416  # pairs of BigCloneBench as CodeXGLUE filtered it
FUNCTIONS = 52_561  # test functions of CodeXGLUE's six languages
TEXT_LENGTH, CODE_LENGTH = 64, 512  # tokens of an input with its padding: assumed, not measured


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    sizes, exits = TrunkSizes(**model["sizes"]), tuple(model["exits"])
    if stage.name == "pretrain":
        return _pretrain(sizes, exits, data)
    if stage.name.startswith("clones"):
        return _clones(sizes, exits, data, trained=stage.run == "fit")
    encoder = MultiExitEncoder(sizes, PAPER_TOKENS, exits)
    if stage.name == "evaluate":
        encoder.requires_grad_(False).eval()

        def search(n: int) -> None:
            encoder(_ids(n, TEXT_LENGTH)), encoder(_ids(n, CODE_LENGTH))

        return Workload(encoder, search, data["eval_batch_size"], FUNCTIONS, unit="function")

    def contrast(n: int) -> Tensor:
        """A row of code beside code; with words in its place it is shorter."""
        first, second = encoder(_ids(n, CODE_LENGTH)), encoder(_ids(n, CODE_LENGTH))
        return _weighted([clip_loss(first[i], second[i], model["scale"]) for i in exits], exits, sizes.layers)

    return Workload(encoder, contrast, data["batch_size"], TRIPLETS, unit="pair", workers=data["num_workers"])


def _pretrain(sizes: TrunkSizes, exits: tuple[int, ...], data: dict[str, Any]) -> Workload:
    asked = data.get("objective", "icc") != "mlm"
    trunk = Trunk(sizes.config(PAPER_TOKENS), recompute=sizes.recompute)
    heads = PretrainingHeads(sizes.hidden, PAPER_TOKENS, len(exits), context=asked)
    length, hidden = data["max_length"], round(data["max_length"] * data["hidden"])

    def step(n: int) -> Tensor:
        states = trunk(_ids(n, length))
        losses = []
        for number, i in enumerate(exits):
            words = heads.words(states[i][:, :hidden].flatten(0, 1), number).float()
            losses.append(F.cross_entropy(words, _zeros(len(words))))
            if asked:
                losses[-1] = losses[-1] + F.cross_entropy(heads.belongs(pool(states[i]), number).float(), _zeros(n))
        return _weighted(losses, exits, sizes.layers)

    networks = nn.ModuleList([trunk, heads])
    reported = "450,000 GPU hours for everything, 512 Ampere GPUs of 64 GB (a reader's note, model card)"
    return Workload(
        networks, step, data["batch_size"], WINDOWS, "window", workers=data["num_workers"], reported=reported
    )


def _clones(sizes: TrunkSizes, exits: tuple[int, ...], data: dict[str, Any], trained: bool) -> Workload:
    net = Classifier(sizes, PAPER_TOKENS, exits).requires_grad_(trained).train(trained)

    def step(n: int) -> Tensor:
        logits = net(_ids(n, 2 * CODE_LENGTH), None)
        return _weighted([F.cross_entropy(logits[i], _zeros(n)) for i in exits], exits, sizes.layers)

    if trained:
        return Workload(net, step, data["batch_size"], CLONES, unit="pair", workers=data["num_workers"])
    return Workload(net, step, data["eval_batch_size"], CLONES_TEST, unit="pair")


def _weighted(losses: list[Tensor], exits: tuple[int, ...], layers: int) -> Tensor:
    weights = exit_weights(exits, layers)
    return torch.stack([alpha * loss for alpha, loss in zip(weights, losses, strict=True)]).sum()


def _ids(rows: int, length: int) -> Tensor:
    return torch.zeros(rows, length, dtype=torch.long)


def _zeros(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.long)
