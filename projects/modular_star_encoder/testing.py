"""Test sets: functions to find, and labelled programs (POJ-104)."""

from typing import NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.data.code import Function, FunctionSource
from common.data.readers.clones import Poj104, Program
from common.data.text import Split
from projects.modular_star_encoder.pairs import CODE, TEXT
from projects.modular_star_encoder.tokens import Batch, Formatter, load_marked_tokenizer


class Tested(NamedTuple):
    """Functions with their inputs; `twin` has rows for those alone that have one, `with_twin` their places."""

    functions: list[Function]
    text: Batch
    code: Batch
    twin: Batch
    with_twin: Tensor


class Labelled(NamedTuple):
    code: Batch
    labels: Tensor


class EvaluationData(L.LightningDataModule):
    """The test functions of several sets (languages), and programs that solve the same problem.

    Args:
        sets: functions by name; each function is searched for among all of its set.
        tokenizer: folder or hub id.
        clones: programs with their problem; None for none.
        validated: measure the validation functions of each set too.
        code_instruction: before code; `{language}` is replaced.
        text_instruction: before descriptions.
        max_length: tokens of an input.
        eval_batch_size: functions per step.
    """

    def __init__(
        self,
        sets: dict[str, FunctionSource],
        tokenizer: str,
        clones: Poj104 | None = None,
        validated: bool = False,
        code_instruction: str = CODE,
        text_instruction: str = TEXT,
        max_length: int = 2048,
        eval_batch_size: int = 64,
    ):
        super().__init__()
        self.sets, self.clones, self.validated = sets, clones, validated
        self.formatter = Formatter(load_marked_tokenizer(tokenizer), max_length, code_instruction, text_instruction)
        self.max_length, self.eval_batch_size = max_length, eval_batch_size

    @property
    def tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.formatter.tokenizer)

    def _functions(self, functions: list[Function]) -> Tested:
        form, with_twin = self.formatter, [row for row, f in enumerate(functions) if f.twin]
        twins = form.code([functions[k].twin for k in with_twin], [functions[k].twin_language for k in with_twin])
        return Tested(
            functions,
            form.batch(form.text([f.text for f in functions])),
            form.batch(form.code([f.code for f in functions], [f.language for f in functions])),
            form.batch(twins) if twins else {},
            torch.tensor(with_twin, dtype=torch.long),
        )

    def _programs(self, programs: list[Program]) -> Labelled:
        rows = self.formatter.code([p.code for p in programs], [p.language for p in programs])
        return Labelled(self.formatter.batch(rows), torch.tensor([p.label for p in programs]))

    def test_dataloader(self) -> list[DataLoader]:
        """The sets' test functions, then their validation functions, then programs."""
        size = self.eval_batch_size
        splits: list[Split] = ["test", "val"] if self.validated else ["test"]
        loaders = [
            DataLoader(s.read(split), size, collate_fn=self._functions)  # type: ignore[arg-type]
            for split in splits
            for s in self.sets.values()
        ]
        if self.clones:
            loaders.append(DataLoader(self.clones.read("test"), size, collate_fn=self._programs))
        return loaders
