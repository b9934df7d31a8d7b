"""Stand-ins for what the paper's configs read: made-up sentences in GLUE's formats; tiny BERTs, as on the hub and as
published."""

from pathlib import Path

import torch

from common.data.readers.glue import TASKS, Layout
from common.models.text_classifier import ClassifierConfig, build_classifier
from common.rehearsal.datasets import make_sentences, write_parquet
from common.rehearsal.hub import snapshot, write_hub

HUB = ("bert-base-uncased", "google/bert_uncased_L-6_H-768_A-12")
TRAIN, DEV = 260, 12  # two of the largest batches, and some more


def make(folder: Path) -> None:
    """Write `data/glue`, `hub`, `weights/sinkd`: CoLA as the benchmark's TSVs, the other tasks as the hub's parquet."""
    root = folder / "data/glue"
    for task, layout in TASKS.items():
        parts = {"train": TRAIN, "validation": DEV}
        if task == "mnli":
            parts = {"train": TRAIN, "validation_matched": DEV, "validation_mismatched": DEV}
        for part, count in parts.items():
            examples = rows(layout, count)
            if task == "cola":
                file = root / layout.folder / f"{'dev' if part == 'validation' else part}.tsv"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(
                    "".join(f"gj04\t{row['label']}\t\t{row[layout.text]}\n" for row in examples), encoding="utf-8"
                )
            else:
                write_parquet(root / task / f"{part}-00000-of-00001.parquet", examples)
    write_hub(folder / "hub", HUB, layers=2)
    for who, encoder in zip(("teacher", "student"), HUB, strict=True):
        for task, layout in TASKS.items():
            write_published(folder / "weights/sinkd" / who / task, snapshot(folder / "hub", encoder), layout)


def write_published(folder: Path, encoder: Path, layout: Layout) -> None:
    """A classifier's weight file as transformers wrote it when SinKD was made: with the numbers of the positions."""
    net = build_classifier(ClassifierConfig(pretrained=str(encoder)), len(layout.classes), 0, load=False)
    folder.mkdir(parents=True)
    torch.save(
        {**net.state_dict(), "bert.embeddings.position_ids": torch.arange(512)[None]}, folder / "pytorch_model.bin"
    )


def rows(layout: Layout, count: int) -> list[dict[str, str | int]]:
    """Rows in the columns of the hub's files."""
    first, second = make_sentences(count), make_sentences(count, first=7)
    found: list[dict[str, str | int]] = []
    for k in range(count):
        row: dict[str, str | int] = {layout.text: first[k], "label": k % len(layout.classes), "idx": k}
        found.append(row | ({layout.pair: second[k]} if layout.pair else {}))
    return found
