"""Stand-ins for what the paper's configs read: made-up pairs in the official files' formats, tiny encoders."""

from pathlib import Path
from random import Random

from common.data.readers.sts import SUBSETS
from common.rehearsal.hub import write_hub

HUB = [
    "bert-base-uncased",
    "roberta-base",
    "princeton-nlp/unsup-simcse-bert-base-uncased",
    "princeton-nlp/unsup-simcse-roberta-base",
]
WORDS = ["a", "the", "small", "brown", "cat", "dog", "sleeps", "runs", "on", "beside", "red", "chair", "two", "people"]


def make(folder: Path) -> None:
    """Write `data/STS/STS<yy>-en-test`, `data/STS/STSBenchmark`, `data/SICK` and `hub/` into `folder`."""
    rng = Random(0)
    for year, subsets in SUBSETS.items():
        for subset in subsets:
            pairs = _pairs(rng, 6)
            where = folder / f"data/STS/STS{year % 100}-en-test"
            _write(where / f"STS.input.{subset}.txt", [f"{a}\t{b}" for a, b, _ in pairs])
            # the later years have scores for a part of their pairs
            blank = [year >= 2015 and k % 3 == 2 for k in range(len(pairs))]
            _write(where / f"STS.gs.{subset}.txt", ["" if b else s for b, (_, _, s) in zip(blank, pairs, strict=True)])
    for part in ("train", "dev", "test"):
        lines = [f"main-news\tMSRpar\t2012test\t{k:04d}\t{s}\t{a}\t{b}" for k, (a, b, s) in enumerate(_pairs(rng, 40))]
        _write(folder / f"data/STS/STSBenchmark/sts-{part}.csv", lines)
    for part in ("train", "trial", "test_annotated"):
        header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"
        lines = [f"{k}\t{a}\t{b}\t{s}\tNEUTRAL" for k, (a, b, s) in enumerate(_pairs(rng, 20))]
        _write(folder / f"data/SICK/SICK_{part}.txt", [header, *lines])
    write_hub(folder / "hub", HUB, layers=2)


def _pair(rng: Random) -> tuple[str, str, str]:
    """Two sentences and a score between 1 and 5."""
    first = [rng.choice(WORDS) for _ in range(rng.randint(4, 9))]
    kept = rng.random()
    second = [word if rng.random() < kept else rng.choice(WORDS) for word in first]
    return f"{' '.join(first)}.", f"{' '.join(second)}.", f"{1 + 4 * kept:.3f}"


def _pairs(rng: Random, count: int) -> list[tuple[str, str, str]]:
    return [_pair(rng) for _ in range(count)]


def _write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
