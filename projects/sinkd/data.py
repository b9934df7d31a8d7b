"""Labelled texts as batches of tokens."""

from collections.abc import Iterator

import lightning.pytorch as L
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from common.data.stream import stream_loader
from common.data.text import LabelledText, Split, TextSource
from common.data.tokenizers import build_wordpieces, load_tokenizer
from common.errors import UserError

Batch = dict[str, Tensor]
"""input_ids, token_type_ids, attention_mask [B, N] and labels [B], all int64; N is the longest text's length."""


def all_texts(examples: list[LabelledText]) -> Iterator[str]:
    """All texts of examples, those of a pair one after the other."""
    for example in examples:
        yield example.text
        if example.pair is not None:
            yield example.pair


class Examples:
    """A list of examples as `stream_loader` wants it."""

    def __init__(self, examples: list[LabelledText]):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

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
        seed: int = 0,
    ):
        super().__init__()
        self.task, self.max_length, self.seed = task, max_length, seed
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
        return collate(examples, self.tokenizer, self.max_length)

    def train_dataloader(self) -> DataLoader:
        if len(self.train) < self.batch_size * self.trainer.world_size:
            raise UserError(
                f"{len(self.train)} training texts do not fill one batch of {self.batch_size} on each of "
                f"{self.trainer.world_size} processes: lower data.batch_size"
            )
        return stream_loader(Examples(self.train), self.batch_size, self.trainer, self.seed, collate=self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.eval_batch_size, collate_fn=self.collate)


class EvaluationData(L.LightningDataModule):
    """The test batches of several tasks, in the order of their names, and then their validation batches.

    Args:
        tasks: labelled texts by name.
        tokenizer: hub id, or folder of a tokenizer.
        max_length: longer inputs are cut to this many tokens.
        eval_batch_size: texts per step.
    """

    def __init__(
        self,
        tasks: dict[str, TextSource],
        tokenizer: str,
        max_length: int = 128,
        eval_batch_size: int = 128,
    ):
        super().__init__()
        self.tasks, self.tokenizer = tasks, load_tokenizer(tokenizer)
        self.max_length, self.eval_batch_size = max_length, eval_batch_size

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
                self.tasks[name].read(split),
                self.eval_batch_size,
                collate_fn=lambda examples: collate(examples, self.tokenizer, self.max_length),
            )
            for split in splits
            for name in sorted(self.tasks)
        ]


def collate(examples: list[LabelledText], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Batch:
    """Tokenize texts, or pairs of texts, and pad them to the longest."""
    pairs = [example.pair for example in examples] if examples[0].pair is not None else None
    batch = tokenizer(
        [example.text for example in examples],
        pairs,
        truncation=True,
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
    return {**batch, "labels": Tensor([example.label for example in examples]).long()}
