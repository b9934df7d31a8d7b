"""Stand-ins for what the paper's configs read: the grammar's stories in the formats of the real sets, tiny networks."""

import json
from pathlib import Path

import torch

from common.rehearsal.datasets import make_sentences
from common.rehearsal.hub import mark_absent, snapshot, write_hub
from common.rehearsal.text_models import roberta
from projects.emo_pillars.data import EMO_CONTEXT, ISEAR
from projects.emo_pillars.grammar import StoryGrammar, generator, plot
from projects.emo_pillars.prompts import prompt
from projects.emo_pillars.records import FILES
from projects.emo_pillars.taxonomy import GOEMOTIONS

HUB = ("FacebookAI/roberta-large", "mistralai/Mistral-7B-Instruct-v0.2")
RELEASED = "alex-shvets/roberta-large-emopillars-contextless-goemotions"
COUNT = 24


def make(folder: Path) -> None:
    """Write `data/{wikiplots,emopillars,goemotions,isear,emocontext}` and `hub`."""
    data = folder / "data"
    write(data / "wikiplots/plots", "".join(f"{line}\n" for line in plot_lines(40)))
    write(data / "wikiplots/titles", "".join(f"Story {k}\n" for k in range(40)))
    for part in ("context-less", "context-full"):
        for split, file in FILES.items():
            rows = "".join(json.dumps(record(split, k), ensure_ascii=False) + "\n" for k in range(COUNT))
            write(data / "emopillars" / part / file, rows)
    goemotions(data / "goemotions")
    texts = make_sentences(60)
    rows = "".join(f'{list(ISEAR)[k % 7]},"{text}"\n' for k, text in enumerate(texts))
    write(data / "isear/isear.csv", rows)
    labels = list(EMO_CONTEXT)
    for file in ("train.txt", "dev.txt", "test.txt"):
        turns = ("\t".join((str(k), *make_sentences(3, k), labels[k % 4])) for k in range(COUNT))
        write(data / "emocontext" / file, "".join(f"{line}\n" for line in ("id\tturn1\tturn2\tturn3\tlabel", *turns)))
    write_hub(folder / "hub", HUB, layers=2)
    names = GOEMOTIONS[::-1]  # published networks have orders of their own
    files = snapshot(folder / "hub", RELEASED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        labels_of = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
        roberta(files, layers=2, kind="RobertaForSequenceClassification", **labels_of)
    mark_absent(files)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def plot_lines(count: int) -> list[str]:
    """WikiPlots: a sentence a line, and a mark after each plot."""
    told = [plot(generator("plot", k)) for k in range(count)]
    return [line for text in told for line in (*(f"{part} ." for part in text.rstrip(" .").split(" . ")), "<EOS>")]


def record(split: str, k: int) -> dict[str, object]:
    """An utterance with the fields of the released files, and with those of contexts as our pipeline names them."""
    said = f"oh , the clock makes me so {['happy', 'furious', 'sad'][k % 3]} !"
    [answer] = StoryGrammar().answers([prompt("levels", utterance=said + " " * k)], 100)
    levels = [[line.split(": ")[0], float(line.split(": ")[1])] for line in answer.splitlines()]
    return {
        "plot_id": k // 4, "utterance": said, "primary_emotion": levels[0][0], "all_emotions": levels,
        "all_emotions_mapped": levels, "expressiveness": levels[0][1], "labels": [GOEMOTIONS.index("joy")],
        "context": f"Anna is a timid baker . {split} {k} .", "clean_context": "Anna is a timid baker .",
        "rewritten": said.replace("happy", "strange"),
    }  # fmt: skip


def goemotions(folder: Path) -> None:
    """GoEmotions' released files."""
    write(folder / "emotions.txt", "".join(f"{name}\n" for name in GOEMOTIONS))
    for file in ("train.tsv", "dev.tsv", "test.tsv"):
        rows = (f"{text}\t{k % 28},{(k + 1) % 28}\tid{k}\n" for k, text in enumerate(make_sentences(56)))
        write(folder / file, "".join(rows))
