"""Pairs of sentences as batches."""

import warnings

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Metric, SpearmanCorrCoef
from torchmetrics.classification import BinaryAUROC

from common.data.pairs import Pair, PairSource
from common.data.stream import stream_loader

Batch = tuple[list[Pair], Tensor]
"""B pairs, and their rows in the training set [B]."""


class Rows:
    """Pairs with their numbers, as `stream_loader` wants them."""

    def __init__(self, pairs: list[Pair]):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[Pair, int]:
        return self.pairs[index], index


def collate(rows: list[tuple[Pair, int]]) -> Batch:
    return [pair for pair, _ in rows], torch.tensor([row for _, row in rows])


class PairData(L.LightningDataModule):
    """Training pairs, whose scores no unsupervised training looks at, and scored pairs to validate on.

    Args:
        train: pairs to learn from.
        val: pairs to choose weights by; None where there are no scored ones, and the last weights are kept.
        batch_size: pairs per step and process; incomplete batches are left out.
        eval_batch_size: pairs per validation step.
        both_orders: train on (a, b) and on (b, a); off where a pair's order matters (question and answer).
        limit: train on this many pairs, drawn by the seed; None takes all.
        num_workers: processes that make batches.
        seed: order of the training pairs, and which they are.
    """

    def __init__(
        self,
        train: PairSource,
        val: PairSource | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 128,
        both_orders: bool = False,
        limit: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.both_orders, self.num_workers, self.seed = both_orders, num_workers, seed
        self.pairs, self.val = train.read("train"), val.read("val") if val else []
        self.binary = val.binary if val else False
        if limit is not None:
            chosen = np.random.default_rng((seed, 2)).permutation(len(self.pairs))[:limit]
            self.pairs = [self.pairs[k] for k in chosen]

    @property
    def rows(self) -> list[Pair]:
        """What is drawn from in an epoch: the pairs, then, with both orders, the swapped pairs."""
        return self.pairs + [pair.swapped for pair in self.pairs] if self.both_orders else self.pairs

    def train_dataloader(self) -> DataLoader:
        return stream_loader(Rows(self.rows), self.batch_size, self.trainer, self.seed, self.num_workers, collate)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        if not self.val:
            return []
        rows = list(zip(self.val, range(len(self.val)), strict=True))
        return DataLoader(rows, self.eval_batch_size, collate_fn=collate)


class EvaluationData(L.LightningDataModule):
    """Scored pairs to choose the best cycle by, and the test sets, in the order of their names.

    Args:
        val: pairs to choose by.
        tests: test sets by name.
        eval_batch_size: pairs per step.
    """

    def __init__(self, val: PairSource, tests: dict[str, PairSource], eval_batch_size: int = 128):
        super().__init__()
        self.val, self.tests, self.eval_batch_size = val, tests, eval_batch_size

    @property
    def names(self) -> list[str]:
        """Names of the sets, that to choose by first."""
        return ["val", *sorted(self.tests)]

    @property
    def binary(self) -> list[bool]:
        """Whether a set's scores are classes, in the order of the names."""
        return [self.val.binary, *(self.tests[name].binary for name in sorted(self.tests))]

    def test_dataloader(self) -> list[DataLoader]:
        sets = [self.val.read("val"), *(self.tests[name].read("test") for name in sorted(self.tests))]
        return [DataLoader(pairs, self.eval_batch_size, collate_fn=list) for pairs in sets]


def agreement(binary: bool) -> Metric:
    """How scores are compared with the truth: the area under the ROC curve for classes, else Spearman's rho."""
    warnings.filterwarnings("ignore", message="Metric `SpearmanCorrcoef` will save all")  # thousands of numbers
    return Classes() if binary else SpearmanCorrCoef()


class Classes(BinaryAUROC):
    """The area under the ROC curve of scores from -1 to 1 and classes, 1 for a match and 0 for none.

    torchmetrics takes a batch with scores outside [0, 1] for logits and squashes them, that batch alone: cosines have
    to be moved there first.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(((preds + 1) / 2).clamp(0, 1), target.long())
