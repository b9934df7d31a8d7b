"""Functions as batches of pairs: words with code, and code with code."""

from typing import NamedTuple

import lightning.pytorch as L
import numpy as np
from torch.utils.data import DataLoader

from common.data.code import Function, FunctionSource
from common.data.stream import stream_loader
from common.errors import UserError
from projects.modular_star_encoder.tokens import Batch, Formatter, load_marked_tokenizer

CODE = "Represent this {language} code snippet for retrieval:"
TEXT = "Represent this code description for retrieving supporting snippets of code:"


class Drawn(NamedTuple):
    """A function as one training pair, and the seed of its augmentation."""

    function: Function
    twins: bool
    seed: int


Pairs = tuple[Batch, Batch]
"""Two batches whose rows belong together."""


class PairData(L.LightningDataModule):
    """Training pairs of functions: half of them (description, code), half (code, twin); validation: description, code.

    Augmentation, of training code alone: "frequent tokens are replaced at random with probability 30 %". As we read it:
    each kind of token that a snippet has more than once becomes, with that probability, another one throughout the
    snippet, as if a name had been changed. The instruction before it stays.

    Args:
        train: functions to learn from.
        val: functions to validate on.
        tokenizer: folder or hub id.
        code_instruction: before code; `{language}` is replaced.
        text_instruction: before descriptions.
        max_length: tokens of an input.
        twins: share of the (code, twin) pairs among functions that have a twin.
        replace: probability of the augmentation.
        together: so many functions that stand in a row in `train` share a batch: distractors of one another.
        batch_size: pairs per step and process.
        eval_batch_size: functions per validation step.
        num_workers: processes that make batches.
        seed: order of the functions, and what becomes of each.
    """

    def __init__(
        self,
        train: FunctionSource,
        val: FunctionSource,
        tokenizer: str,
        code_instruction: str = CODE,
        text_instruction: str = TEXT,
        max_length: int = 2048,
        twins: float = 0.5,
        replace: float = 0.3,
        together: int = 1,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.formatter = Formatter(load_marked_tokenizer(tokenizer), max_length, code_instruction, text_instruction)
        self.train, self.val = train.read("train"), val.read("val")
        self.twins, self.replace, self.together = twins, replace, together
        if batch_size % together:
            raise UserError(f"batches of {batch_size} pairs cannot hold {together} together: make it a multiple")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed

    @property
    def tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.formatter.tokenizer)

    def __len__(self) -> int:
        return len(self.train) // self.together

    def draw(self, index: int, rng: np.random.Generator) -> list[Drawn]:
        first = index * self.together
        functions = [self.train[k] for k in range(first, first + self.together)]
        return [Drawn(f, bool(f.twin) and rng.random() < self.twins, int(rng.integers(2**31))) for f in functions]

    def collate(self, groups: list[list[Drawn]]) -> Pairs:
        drawn = [one for group in groups for one in group]
        code = self.formatter.code([d.function.code for d in drawn], [d.function.language for d in drawn])
        first = self.formatter.text([d.function.text for d in drawn])
        twins = [row for row, d in enumerate(drawn) if d.twins]
        others = self.formatter.code(
            [drawn[row].function.twin for row in twins], [drawn[row].function.twin_language for row in twins]
        )
        generators = [np.random.default_rng(d.seed) for d in drawn]
        for row, ids in zip(twins, others, strict=True):
            first[row] = self._replaced(ids, generators[row])
        second = [self._replaced(ids, rng) for ids, rng in zip(code, generators, strict=True)]
        return self.formatter.batch(first), self.formatter.batch(second)

    def _replaced(self, ids: list[int], rng: np.random.Generator) -> list[int]:
        """Ids in MoSE's format, in whose code some kinds of frequent tokens are others."""
        start = ids.index(self.formatter.tokenizer.sep_token_id, 1) + 1
        known, counts = np.unique(ids[start:], return_counts=True)
        special = np.isin(known, self.formatter.tokenizer.all_special_ids)
        chosen = (counts > 1) & ~special & (rng.random(len(known)) < self.replace)
        other = {int(token): int(rng.integers(self.tokens - 4)) for token in known[chosen]}
        return ids[:start] + [other.get(token, token) for token in ids[start:]]

    def pairs(self, functions: list[Function]) -> Pairs:
        """Descriptions and code as they are."""
        return (
            self.formatter.batch(self.formatter.text([f.text for f in functions])),
            self.formatter.batch(self.formatter.code([f.code for f in functions], [f.language for f in functions])),
        )

    def train_dataloader(self) -> DataLoader:
        groups = self.batch_size // self.together
        return stream_loader(self, groups, self.trainer, self.seed, self.num_workers, self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.eval_batch_size, collate_fn=self.pairs)
