"""Stand-ins for what the paper's configs read: made-up worlds in ZeShEL's format, a small BERT under its hub id."""

import json
from pathlib import Path

from common.rehearsal.hub import write_hub
from projects.anncur.world import LinkingWorld

TRAINED = [
    "american_football", "doctor_who", "fallout", "final_fantasy", "military", "pro_wrestling", "starwars",
    "world_of_warcraft",
]  # fmt: skip
WORLDS = {"train": TRAINED, "val": ["coronation_street", "elder_scrolls", "ice_hockey", "muppets"], "test": ["yugioh"]}
SMALL, SEARCHED = LinkingWorld(entities=66, mentions=4), LinkingWorld(entities=30, mentions=14)
"""63 hard negatives need more than 63 entities; the searched world is scored pair by pair."""


def make(folder: Path) -> None:
    """Write `data/zeshel/{documents,mentions}/*.json` and `hub/` into `folder`."""
    write_zeshel(folder / "data/zeshel")
    write_hub(folder / "hub", ["bert-base-uncased"], layers=2)


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
