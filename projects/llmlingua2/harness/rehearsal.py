"""Stand-ins for what the paper's configs read: transcripts with compressions and questions as released, tiny models."""

from pathlib import Path
from random import Random

from common.rehearsal.datasets import make_sentences, write_parquet
from common.rehearsal.hub import write_hub
from projects.llmlingua2.recipe import LLAMA, RELEASED, TEACHER

HUB = (
    "FacebookAI/xlm-roberta-large",
    "google-bert/bert-base-multilingual-cased",
    RELEASED.format("xlm-roberta-large"),
    RELEASED.format("bert-base-multilingual-cased"),
    LLAMA,
    TEACHER,
    "mistralai/Mistral-7B-v0.1",
    "Xenova/gpt-3.5-turbo",
)
TRANSCRIPTS, CHUNKS = 10, 4


def make(folder: Path) -> None:
    """Write `data/{meetingbank_compressed,meetingbank_qa}` and `hub`."""
    rng = Random(0)
    rows = []
    for k in range(TRANSCRIPTS):
        chunks = [" ".join(make_sentences(4, first=7 * k + c)) for c in range(CHUNKS)]
        short = [shortened(chunk, rng) for chunk in chunks]
        row = {"idx": k, "prompt": "".join(chunks), "prompt_list": chunks}
        rows.append({**row, "compressed_prompt": "".join(short), "compressed_prompt_list": short})
    write_parquet(folder / "data/meetingbank_compressed/data/train-00000-of-00001.parquet", rows)
    asked = [
        {
            "idx": k,
            "prompt": " ".join(make_sentences(12, first=k)),
            "QA_pairs": [{"question": f"Who is named {n}?", "answer": "two people"} for n in range(3)],
        }
        for k in range(3)
    ]
    write_parquet(folder / "data/meetingbank_qa/data/test-00000-of-00001.parquet", asked)
    write_hub(folder / "hub", HUB, layers=2)


def shortened(text: str, rng: Random) -> str:
    """Some of the words, sometimes with one that was never there."""
    words = [word for word in text.split() if rng.random() < 0.4]
    return " ".join([*words, *(["however"] if rng.random() < 0.3 else [])])
