"""Stand-ins for what the paper's configs read: made-up pairs in the official files' formats, tiny encoders."""

from pathlib import Path
from random import Random

from pyarrow import Table, parquet

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
    """Write `data/{STS,SICK,quora-IR-dataset,glue}` and `hub/` into `folder`."""
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
    for part in ("train", "dev", "test"):
        rows = [f"{k}\t{k}\t{a}\t{b}\t{k % 2}" for k, (a, b, _) in enumerate(_pairs(rng, 24))]
        file = folder / f"data/quora-IR-dataset/classification/{part}_pairs.tsv"
        _write(file, ["qid1\tqid2\tquestion1\tquestion2\tis_duplicate", *rows])
    # of QNLI's development set, which is validation and test set, the first 1,000 are for validation
    for task, first, second, sizes in (
        ("qnli", "question", "sentence", {"train": 8, "validation": 1016}),
        ("mrpc", "sentence1", "sentence2", {"train": 96, "validation": 96, "test": 96}),
    ):
        for part, size in sizes.items():
            rows = [{first: a, second: b, "label": k % 2} for k, (a, b, _) in enumerate(_pairs(rng, size))]
            file = folder / f"data/glue/{task}/{part}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(Table.from_pylist(rows), file)
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
