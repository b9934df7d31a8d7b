"""What a compressor learns from and is measured on: teachers' compressions, and documents with questions.

The released data are read as the hub has them; `CompressedFile` reads what `distill` writes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from common.data.files import is_file, shown
from common.data.plain_texts import PlainTexts
from common.data.records import json_lines
from common.data.stream import stream_loader
from common.data.text import Split
from common.data.tokenizers import load_tokenizer
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT
from projects.llmlingua2.annotate import Quality, annotate, kept_samples, split_words

IGNORED = -100
Batch = dict[str, Tensor]
BANK = """MeetingBank with GPT-4's compressions, and with questions (CC BY-NC-SA 4.0).
  from: huggingface.co/datasets/microsoft/MeetingBank-LLMCompressed and MeetingBank-QA-Summary
  expected: in each one's folder data/*.parquet; the former with columns prompt_list, compressed_prompt_list, the latter
    with prompt, QA_pairs (a list of question, answer)"""


class Compressed(NamedTuple):
    """A chunk, and what a teacher left of it."""

    original: str
    compressed: str


class Compressions(ABC):
    """A teacher's compressions to train on."""

    @abstractmethod
    def read(self, seed: int = 0) -> list[Compressed]:
        """All chunks; worlds draw others for every seed, data sets have one."""


class Question(NamedTuple):
    """A question with its answer."""

    text: str
    answer: str


class Document(NamedTuple):
    """A text, what is asked about it, and what a perfect teacher would leave of it; None where nobody knows."""

    text: str
    questions: tuple[Question, ...]
    essence: str | None = None


class Documents(ABC):
    """Texts with questions; the same split and seed always give the same ones."""

    @abstractmethod
    def read(self, split: Split, seed: int = 0) -> list[Document]:
        """All documents of a split."""


class MeetingBankCompressed(Compressions):
    """GPT-4's compressions of 5,169 meeting transcripts, chunk by chunk, as released.

    Args:
        root: folder of the data set; `$DATA_ROOT` is replaced.
    """

    def __init__(self, root: str):
        self.root = root

    def read(self, seed: int = 0) -> list[Compressed]:
        found = []
        for row in _rows(self.root, ["prompt_list", "compressed_prompt_list"]):
            chunks, short = row["prompt_list"], row["compressed_prompt_list"]
            if len(chunks or ()) == len(short or ()):  # of some transcripts a chunk is missing
                found += [Compressed(a, b) for a, b in zip(chunks or (), short or (), strict=True) if split_words(a)]
        return found


class MeetingBankQuestions(Documents):
    """MeetingBank's test transcripts with three question-answer pairs each, as released.

    Args:
        root: folder of the data set; `$DATA_ROOT` is replaced.
        validation: the last so many transcripts are for validation alone.
    """

    def __init__(self, root: str, validation: int = 0):
        self.root, self.validation = root, validation

    def read(self, split: Split, seed: int = 0) -> list[Document]:
        found = [
            Document(row["prompt"], tuple(Question(pair["question"], pair["answer"]) for pair in row["QA_pairs"]))
            for row in _rows(self.root, ["prompt", "QA_pairs"])
        ]
        border = max(0, len(found) - self.validation)
        return found[:border] if split == "test" else found[border:]


class MeetingBankTranscripts(PlainTexts):
    """The training transcripts alone, for another teacher.

    Args:
        root: folder of MeetingBank-LLMCompressed; `$DATA_ROOT` is replaced.
    """

    def __init__(self, root: str):
        self.root = root

    def read(self, split: Split) -> list[str]:
        return ["".join(row["prompt_list"] or ()) for row in _rows(self.root, ["prompt_list"])]


def _rows(root: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of all parquet files below a folder; UserError where there are none, or not such ones."""
    folder = expand(root, "root of MeetingBank")
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    if not files:
        raise UserError(f"no parquet files in {folder}.\n{BANK}")
    for file in files:
        try:
            rows = pq.read_table(file, columns=columns).to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file} cannot be read as MeetingBank ({shown(str(error))}).\n{BANK}") from error
        if rows and (missing := sorted({*columns} - {*rows[0]})):
            raise UserError(f"{file} lacks the column {', '.join(missing)}.\n{BANK}")
        for row in rows:
            if any(value is None or (name == "QA_pairs" and not _asked(value)) for name, value in row.items()):
                raise UserError(f"{file} has a row without {', '.join(columns)} as expected.\n{BANK}")
            yield row


def _asked(pairs: Any) -> bool:
    """Whether there are questions with answers."""
    return isinstance(pairs, list) and all(
        isinstance(pair, dict) and isinstance(pair.get("question"), str) and isinstance(pair.get("answer"), str)
        for pair in pairs
    )


@schema(config=STRICT, slots=True)
class Pair:
    """A line of what `distill` writes."""

    original: str
    compressed: str


class CompressedFile(Compressions):
    """JSON lines with `original` and `compressed`: what `distill` leaves, or one's own.

    Args:
        file: its path.
    """

    def __init__(self, file: str):
        self.file = expand(file, "the file of compressions")

    def read(self, seed: int = 0) -> list[Compressed]:
        about = 'Expected: lines {"original": "...", "compressed": "..."}, as projects.llmlingua2.distill writes them.'
        if not is_file(self.file):
            raise UserError(f"{self.file} is missing.\n{about}")
        pairs = [pair for _, pair in json_lines(self.file, TypeAdapter(Pair), about)]
        return [Compressed(p.original, p.compressed) for p in pairs if split_words(p.original)]


class Sample(NamedTuple):
    """A chunk with a label for each of its words."""

    text: str
    labels: list[bool]


class LabelledData(L.LightningDataModule):
    """Chunks annotated by a teacher's compressions, as batches of tokens with labels.

    A word's label is copied to all of its tokens. Special tokens, padding and commas have none; the released code gives
    the label 0 to the first two, and has removed the latter.

    Args:
        source: chunks and their compressions.
        tokenizer: hub id or folder.
        window: of the annotation, in words to either side.
        percentile: of quality control; None keeps every chunk.
        validation: share of the chunks that is held out, drawn by the seed.
        max_length: longer chunks are cut to this many tokens.
        batch_size: chunks per step and process.
        seed: which chunks are held out, and the order of the others.
    """

    def __init__(
        self,
        source: Compressions,
        tokenizer: str,
        window: int = 400,
        percentile: float | None = 90,
        validation: float = 0.2,
        max_length: int = 512,
        batch_size: int = 10,
        seed: int = 0,
    ):
        super().__init__()
        if window < 1 or not 0 < validation < 1 or (percentile is not None and not 0 < percentile <= 100):
            raise UserError(
                f"data.window is {window} (at least 1), data.validation {validation} (between 0 and 1), "
                f"data.percentile {percentile} (above 0, at most 100, or null)"
            )
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.model_max_length = max_length  # which the compressor heeds
        self.max_length, self.batch_size, self.seed = max_length, batch_size, seed
        pairs = source.read(seed)
        samples, self.quality = label(pairs, window)
        chosen = list(range(len(samples)))
        if percentile is not None:
            chosen = kept_samples([q.variation for q in self.quality], [q.gap for q in self.quality], percentile)
        self.passed = len(chosen) / max(1, len(samples))
        order = np.random.default_rng((seed, 3)).permutation(len(chosen))
        border = len(order) - round(validation * len(order))
        self.train = [samples[chosen[k]] for k in order[:border]]
        self.val = [samples[chosen[k]] for k in order[border:]]

    def __len__(self) -> int:
        return len(self.train)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return self.train[index]

    def collate(self, samples: Sequence[Sample]) -> Batch:
        return collate(samples, self.tokenizer, self.max_length)

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, collate=self.collate)

    def val_dataloader(self) -> DataLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(self.val[rank::world], self.batch_size, collate_fn=self.collate)  # type: ignore[arg-type]


def label(pairs: Sequence[Compressed], window: int) -> tuple[list[Sample], list[Quality]]:
    """Chunks with their words' labels, and how well each was aligned."""
    samples, quality = [], []
    for pair in pairs:
        words = [word.text for word in split_words(pair.original)]
        labels, found = annotate(words, [word.text for word in split_words(pair.compressed)], window)
        samples.append(Sample(pair.original, labels))
        quality.append(found)
    return samples, quality


def token_labels(sample: Sample, places: Sequence[tuple[int, int]]) -> list[int]:
    """The label of the word that each token is part of; IGNORED where it is part of none."""
    found, k = [], 0
    words = split_words(sample.text)
    for start, end in places:
        while k < len(words) and words[k].end <= start:
            k += 1
        inside = k < len(words) and start < end and end > words[k].start
        found.append(int(sample.labels[k]) if inside else IGNORED)
    return found


def collate(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Batch:
    """input_ids, attention_mask and labels, [B, N] each."""
    rows, labels = [], []
    for sample in samples:
        coded = tokenizer(sample.text, truncation=True, max_length=max_length, return_offsets_mapping=True)
        rows.append(torch.tensor(coded.input_ids))
        labels.append(torch.tensor(token_labels(sample, coded.offset_mapping)))

    def pad(parts: list[Tensor], value: int) -> Tensor:
        return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)

    seen = pad([torch.ones_like(row) for row in rows], 0)
    return {
        "input_ids": pad(rows, tokenizer.pad_token_id),
        "attention_mask": seen,
        "labels": pad(labels, IGNORED),
    }
