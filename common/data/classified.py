"""Labelled texts, with one class or with scores for all classes, as batches of tokens."""

from collections.abc import Iterator

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import BatchEncoding, PreTrainedTokenizerBase

from common.data.stream import stream_loader
from common.data.text import LabelledText, Split, TextSource
from common.data.tokenizers import build_wordpieces, load_tokenizer
from common.errors import UserError

Batch = dict[str, Tensor]
"""input_ids, token_type_ids, attention_mask [B, N], all int64, N the longest text's length; and labels, classes [B] in
int64 or scores [B, C] in float32."""


def all_texts(examples: list[LabelledText]) -> Iterator[str]:
    """All texts of examples, those of a pair one after the other."""
    for example in examples:
        yield example.text
        if example.pair is not None:
            yield example.pair


class Examples(Dataset[LabelledText]):
    """A list of examples as loaders want it."""

    def __init__(self, examples: list[LabelledText]):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> LabelledText:
        return self.examples[index]

    def draw(self, index: int, rng: np.random.Generator) -> LabelledText:
        return self.examples[index]


class TextData(L.LightningDataModule):
    """A task's training batches, and its validation batches.

    Args:
        task: the labelled texts.
        tokenizer: hub id, or folder of a tokenizer; None makes one of `vocabulary` pieces of the task's training texts.
        vocabulary: size of a tokenizer that is made here.
        max_length: longer inputs are cut to this many tokens.
        batch_size: texts per step and process; incomplete batches are left out.
        eval_batch_size: texts per validation step.
        train_examples: train on this many, drawn by the seed; None takes all.
        keep_pair: of a pair that is too long, cut the first text alone (see `collate`).
        seed: order of the training texts, and which they are.
    """

    def __init__(
        self,
        task: TextSource,
        tokenizer: str | None = None,
        vocabulary: int = 1000,
        max_length: int = 128,
        batch_size: int = 16,
        eval_batch_size: int = 128,
        train_examples: int | None = None,
        keep_pair: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.task, self.max_length, self.keep_pair, self.seed = task, max_length, keep_pair, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train, self.val = task.read("train"), task.read("val")
        self.tokenizer = load_tokenizer(tokenizer) if tokenizer else build_wordpieces(all_texts(self.train), vocabulary)
        if train_examples is not None:
            chosen = np.random.default_rng((seed, 2)).permutation(len(self.train))[:train_examples]
            self.train = [self.train[k] for k in chosen]

    @property
    def classes(self) -> int:
        return len(self.task.classes)

    @property
    def tokens(self) -> int:
        """Size of the tokenizer's vocabulary."""
        return len(self.tokenizer)

    def collate(self, examples: list[LabelledText]) -> Batch:
        return collate(examples, self.tokenizer, self.max_length, self.keep_pair)

    def train_dataloader(self) -> DataLoader:
        processes = self.trainer.world_size  # type: ignore[union-attr]
        if len(self.train) < self.batch_size * processes:
            raise UserError(
                f"{len(self.train)} training texts do not fill one batch of {self.batch_size} on each of "
                f"{processes} processes: lower data.batch_size"
            )
        return stream_loader(Examples(self.train), self.batch_size, self.trainer, self.seed, collate=self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Examples(self.val), self.eval_batch_size, collate_fn=self.collate)


class EvaluationData(L.LightningDataModule):
    """The test batches of several tasks, in the order of their names, and then their validation batches.

    Args:
        tasks: labelled texts by name.
        tokenizer: hub id, or folder of a tokenizer.
        max_length: longer inputs are cut to this many tokens.
        eval_batch_size: texts per step.
        keep_pair: of a pair that is too long, cut the first text alone (see `collate`).
    """

    def __init__(
        self,
        tasks: dict[str, TextSource],
        tokenizer: str,
        max_length: int = 128,
        eval_batch_size: int = 128,
        keep_pair: bool = False,
    ):
        super().__init__()
        self.tasks, self.tokenizer = tasks, load_tokenizer(tokenizer)
        self.max_length, self.eval_batch_size, self.keep_pair = max_length, eval_batch_size, keep_pair

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of each task's classes."""
        return {name: task.classes for name, task in self.tasks.items()}

    @property
    def tokens(self) -> int:
        """Size of the tokenizer's vocabulary."""
        return len(self.tokenizer)

    def test_dataloader(self) -> list[DataLoader]:
        splits: tuple[Split, ...] = ("test", "val")
        return [
            DataLoader(
                Examples(self.tasks[name].read(split)),
                self.eval_batch_size,
                collate_fn=lambda examples: collate(examples, self.tokenizer, self.max_length, self.keep_pair),
            )
            for split in splits
            for name in sorted(self.tasks)
        ]


def collate(
    examples: list[LabelledText], tokenizer: PreTrainedTokenizerBase, max_length: int, keep_pair: bool = False
) -> Batch:
    """Tokenize texts, or pairs of texts, and pad them to the longest.

    Args:
        max_length: longer inputs are cut; of a pair always the longer text, a token at a time.
        keep_pair: cut the first text alone (a context), the second only where it is too long by itself.
    """
    batch = _encode(examples, tokenizer, max_length, keep_pair)
    if examples[0].pair is not None and "token_type_ids" not in batch:  # RoBERTa's tokenizers give none
        batch["token_type_ids"] = _second(batch)
    return {**batch, "labels": _labels(examples)}


def _encode(
    examples: list[LabelledText], tokenizer: PreTrainedTokenizerBase, max_length: int, keep_pair: bool
) -> BatchEncoding:
    texts, pairs = [example.text for example in examples], None
    truncation: bool | str = True
    if examples[0].pair is not None:
        pairs = [example.pair or "" for example in examples]
        if keep_pair:
            room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - 1  # the first text keeps a token
            if room < 1:
                raise UserError(f"a max_length of {max_length} leaves no room for a text: raise it")
            pairs = [_cut(pair, tokenizer, room) for pair in pairs]
            truncation = "only_first"
    return tokenizer(texts, pairs, truncation=truncation, max_length=max_length, padding=True, return_tensors="pt")


def _cut(text: str, tokenizer: PreTrainedTokenizerBase, room: int) -> str:
    """The longest beginning of a text that is at most `room` tokens, itself where it is short enough."""
    if len(text.encode()) < room:  # no token has less than a byte
        return text

    def ends() -> list[int]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [end for _, end in found["offset_mapping"]]

    while len(there := ends()) > room:  # a word that was cut may become more tokens than it was
        text = text[: min(there[room - 1], len(text) - 1)]
    return text


def _second(batch: BatchEncoding) -> Tensor:
    """1 from a pair's second text on, to the end token after it; 0 elsewhere, as BERT has it. [B, N]"""
    rows = [torch.tensor([part == 1 for part in batch.sequence_ids(k)]) for k in range(len(batch["input_ids"]))]
    second = torch.stack(rows).long()
    return second.cumsum(1).gt(0).long() * batch["attention_mask"]


def _labels(examples: list[LabelledText]) -> Tensor:
    if examples[0].scores:
        return Tensor([example.scores for example in examples])
    return Tensor([example.label for example in examples]).long()
