"""Stand-ins for what the paper's configs read: made-up worlds in ZeShEL's format, a small BERT under its hub id, and
checkpoints as the authors have published them."""

import json
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor, nn

from common.rehearsal.hub import snapshot, write_hub
from projects.anncur.encoders import BertSizes, Kind, build
from projects.anncur.recipe import WEIGHTS
from projects.anncur.released import NAMES
from projects.anncur.world import LinkingWorld

TRAINED = [
    "american_football", "doctor_who", "fallout", "final_fantasy", "military", "pro_wrestling", "starwars",
    "world_of_warcraft",
]  # fmt: skip
WORLDS = {"train": TRAINED, "val": ["coronation_street", "elder_scrolls", "ice_hockey", "muppets"], "test": ["yugioh"]}
SMALL, SEARCHED = LinkingWorld(entities=66, mentions=4), LinkingWorld(entities=30, mentions=14)
"""63 hard negatives need more than 63 entities; the searched world is scored pair by pair."""


def make(folder: Path) -> None:
    """Write `data/zeshel/{documents,mentions}/*.json`, `hub/` and `weights/*.ckpt` into `folder`."""
    write_zeshel(folder / "data/zeshel")
    write_hub(folder / "hub", ["bert-base-uncased"], layers=2)
    sizes = BertSizes(pretrained=str(snapshot(folder / "hub", "bert-base-uncased")))
    (folder / "weights").mkdir(exist_ok=True)
    kinds: tuple[Kind, ...] = ("emb", "cls", "dual")
    for kind in kinds:
        write_checkpoint(build(kind, sizes, load=False), folder / "weights" / WEIGHTS[kind][1])


def write_checkpoint(net: nn.Module, file: Path) -> None:
    """An encoder as the official code saves it: under its names, with poolers, beside a pickled configuration."""
    state: dict[str, Tensor] = {}
    for key, value in net.state_dict().items():
        for theirs, ours in NAMES:
            if key.startswith(ours):
                state[f"model.{theirs}{key[len(ours) :]}"] = value
    for key in [key for key in state if key.endswith("embeddings.word_embeddings.weight")]:
        width = state[key].shape[1]
        pooler = key.replace("embeddings.word_embeddings", "pooler.dense")
        state.setdefault(pooler, torch.zeros(width, width))
        state.setdefault(pooler.replace(".weight", ".bias"), torch.zeros(width))
    module = ModuleType("utils.config")
    module.Config = type("Config", (), {"__module__": "utils.config"})  # type: ignore[attr-defined]
    configuration = module.Config()
    configuration.num_negs, configuration.train_domains = 63, ("dummy",)
    with patch.dict(sys.modules, {"utils": ModuleType("utils"), "utils.config": module}):
        torch.save({"epoch": 2, "state_dict": state, "hyper_parameters": {"config": configuration}}, file)


def write_zeshel(root: Path) -> None:
    """Procedural worlds in ZeShEL's format; every mention stands in a document of its own, behind the entities."""
    for folder in ("documents", "mentions"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, names in WORLDS.items():
        mentions = []
        for name in names:
            domain = (SEARCHED if name in WORLDS["test"] else SMALL).domain(name)
            texts = [(entity.title, f"{entity.title} {entity.text}") for entity in domain.entities]
            for number, mention in enumerate(domain.mentions):
                left, words = mention.left.split(), mention.mention.split()
                mentions.append(
                    {
                        "category": "LOW_OVERLAP",
                        "text": mention.mention,
                        "corpus": name,
                        "mention_id": f"{name}-{number}",
                        "context_document_id": f"{name}-{len(texts)}",
                        "label_document_id": f"{name}-{mention.entity}",
                        "start_index": len(left),
                        "end_index": len(left) + len(words) - 1,
                    }
                )
                texts.append((f"story {number}", " ".join([*left, *words, *mention.right.split()])))
            lines = [
                {"title": title, "text": text, "document_id": f"{name}-{number}"}
                for number, (title, text) in enumerate(texts)
            ]
            _write(root / "documents" / f"{name}.json", lines)
        _write(root / "mentions" / f"{split}.json", mentions)


def _write(file: Path, lines: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
