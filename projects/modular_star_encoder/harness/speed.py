"""What `make speed PAPER=modular_star_encoder` measures: the exits at their real size, a mini training, its data."""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.data.code import Repository
from common.data.readers.code_search import CodeSearchNet, CodeTriplets
from common.data.readers.stack import StackRepositories
from common.data.stream import Stream
from common.losses.contrastive import clip_loss
from common.rehearsal.datasets import write_jsonl, write_parquet
from common.training.schedules import adamw
from common.workload import Network, Source, Speed, Training
from projects.modular_star_encoder.corpus import Corpus
from projects.modular_star_encoder.harness.cost import PAPER_EXITS, PAPER_TOKENS
from projects.modular_star_encoder.harness.rehearsal import code, function, searched
from projects.modular_star_encoder.model import MultiExitEncoder, Trunk, TrunkSizes, exit_weights
from projects.modular_star_encoder.pairs import PairData
from projects.modular_star_encoder.prepare import write_repositories
from projects.modular_star_encoder.tokens import build_tokenizer
from projects.modular_star_encoder.world import Programs, vocabulary

CONFIGS = [Path(__file__).parents[1] / f"configs/mini/{name}.yaml" for name in ("encoder", "finetune")]
LENGTH = 256  # tokens of the measured input
REPORTED = {4: 161_566_720, 9: 300_602_880, 18: 550_867_968, 27: 801_133_056, 36: 1_051_398_144}
"""Parameters of the trunk without a head: 160 M to 1 B in the paper, in full from its published config."""


def speed() -> Speed:
    """The five exits, each as a model that is cut behind it, beside the last; the fine-tuning at mini scale; data."""
    last = _name(PAPER_EXITS[-1])
    return Speed(
        networks=tuple(
            Network(_name(i), partial(_exit, i), "" if i == 36 else last, giant=i > 9,
                    reported={"params": REPORTED[i]}, source="model card's config")
            for i in reversed(PAPER_EXITS)
        ),
        sources=(Source("pairs of functions", _pairs), Source("windows of 2,048 tokens", _windows)),
        training=Training(prepare, command, bare),
    )  # fmt: skip


def _name(layer: int) -> str:
    return f"exit after layer {layer}"


class OneExit(nn.Module):
    """An encoder with a single exit as a network of one input and one output, [B, N] -> [B, D]."""

    def __init__(self, encoder: MultiExitEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.encoder(input_ids)[self.encoder.exits[0]]


def _exit(layer: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    ids = torch.randint(PAPER_TOKENS, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    return OneExit(MultiExitEncoder(TrunkSizes(), PAPER_TOKENS, [layer])).eval(), (ids,)


def _pairs(folder: Path) -> Callable[[int], Any]:
    write_parquet(folder / "pairs.parquet", [function(k) for k in range(256)])
    write_jsonl(folder / "python/valid.jsonl", [searched(k) for k in range(8)])
    build_tokenizer([code(k) for k in range(256)], 600).save_pretrained(folder / "tokenizer")
    data = PairData(
        CodeTriplets(str(folder / "pairs.parquet")), CodeSearchNet(str(folder), "python"), str(folder / "tokenizer")
    )
    return lambda i: data.collate([data.draw(i % len(data), np.random.default_rng(i))])


def _windows(folder: Path) -> Callable[[int], Any]:
    text = "\n".join(code(k) for k in range(400))
    write_repositories(folder / "x.parquet", [Repository(f"r{k}", [text] * 3) for k in range(64)])
    build_tokenizer([text], 600).save_pretrained(folder / "tokenizer")
    corpus = Corpus(StackRepositories(str(folder / "x.parquet")), str(folder / "tokenizer"))
    return lambda i: corpus.draw(i % len(corpus), np.random.default_rng(i))


def _mini() -> dict[str, Any]:
    base, own = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in CONFIGS)
    return {**base, **own, **{part: {**base[part], **own[part]} for part in ("model", "data")}}


def prepare(folder: Path) -> None:
    """What the fine-tuning reads beside the world of small programs: a tokenizer and a random trunk."""
    tokenizer = build_tokenizer(vocabulary(), 600)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    trunk = Trunk(TrunkSizes(**_mini()["model"]["sizes"]).config(len(tokenizer)))
    save_model(trunk, str(folder / "trunk.safetensors"))


def command(folder: Path) -> list[str]:
    """The fine-tuning at mini scale on what `prepare` wrote, without validation: the bare loop has none."""
    settings = {
        "data.tokenizer": folder / "tokenizer",
        "model.trunk": folder / "trunk.safetensors",
        "trainer.limit_val_batches": 0,
    }
    overrides = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    configs = [word for file in CONFIGS for word in ("--config", str(file))]
    return ["projects.modular_star_encoder.finetune", "fit", *configs, *overrides]


def _data(folder: Path, **other: Any) -> PairData:
    settings = {k: v for k, v in _mini()["data"].items() if k not in ("train", "val", "tokenizer")} | other
    return PairData(Programs(), Programs(), str(folder / "tokenizer"), **settings)


def bare(folder: Path) -> Callable[[], None]:
    """The same step by hand: the same data, encoder, losses, clipping, optimiser and schedule."""
    config = _mini()
    torch.set_num_threads(config["threads"])
    model, trainer, data = config["model"], config["trainer"], _data(folder)
    sizes, exits = TrunkSizes(**model["sizes"]), tuple(model["exits"])
    encoder = MultiExitEncoder(sizes, data.tokens, exits).train()
    weights = exit_weights(exits, sizes.layers)
    settings = model["lr"], model["weight_decay"], model["warmup_steps"], trainer["max_steps"]
    made = adamw(encoder.parameters(), *settings)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    size = data.batch_size // data.together
    positions = (range(start, start + size) for start in count(0, size))
    batches = iter(DataLoader(Stream(data, seed=0), batch_sampler=positions, collate_fn=data.collate))  # type: ignore[arg-type]

    def step() -> None:
        first, second = next(batches)
        a, b = encoder(**first), encoder(**second)
        losses = [alpha * clip_loss(a[i], b[i], model["scale"]) for i, alpha in zip(exits, weights, strict=True)]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), trainer["gradient_clip_val"])
        optimizer.step()
        schedule.step()

    return step
