"""Test sets: functions to find, and labelled programs (POJ-104)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.data.code import Function, FunctionSource
from common.data.readers.clones import Poj104, Program
from projects.modular_star_encoder.pairs import CODE, TEXT
from projects.modular_star_encoder.tokens import Batch, Formatter, load_marked_tokenizer


class Tested(NamedTuple):
    """Functions with their inputs; `twin` has rows for those alone that have one, `with_twin` their places."""

    functions: list[Function]
    text: Batch
    code: Batch
    twin: Batch
    with_twin: Tensor


class Others(NamedTuple):
    """Functions that are ranked, though nobody asks for them."""

    code: Batch


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
        self.parts: list[tuple[str, str]] = []  # what each loader holds, and of which set
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

    def _others(self, functions: list[Function]) -> Others:
        rows = self.formatter.code([f.code for f in functions], [f.language for f in functions])
        return Others(self.formatter.batch(rows))

    def _programs(self, programs: list[Program]) -> Labelled:
        rows = self.formatter.code([p.code for p in programs], [p.language for p in programs])
        return Labelled(self.formatter.batch(rows), torch.tensor([p.label for p in programs]))

    def test_dataloader(self) -> list[DataLoader]:
        """Loaders of what `parts` names."""
        size = self.eval_batch_size
        self.parts = []
        loaders: list[DataLoader] = []

        def add(kind: str, name: str, items: Any, function: Callable[[list[Any]], Any]) -> None:
            if len(items):
                self.parts.append((kind, name))
                loaders.append(DataLoader(items, size, collate_fn=function))

        for name, source in self.sets.items():
            add("test", name, source.read("test"), self._functions)
            add("others", name, source.beyond("test"), self._others)
            add("val", name, source.read("val") if self.validated else [], self._functions)
        if self.clones:
            add("clones", "", self.clones.read("test"), self._programs)
        return loaders
