"""Fine-tune a pre-trained trunk for clone detection, at every exit, and measure it (BigCloneBench).

    python -m projects.modular_star_encoder.clones fit \\
        --config projects/modular_star_encoder/configs/paper/clones.yaml --model.trunk FILE
"""

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryF1Score

from common.cli import main
from common.data.stream import stream_loader
from common.data.text import LabelledText, TextSource
from common.errors import UserError
from common.paths import expand
from common.training.schedules import adamw, optimizer_steps
from common.training.weights import load_weights
from projects.modular_star_encoder.model import Trunk, TrunkSizes, check_exits, exit_weights, load_trunk, pool
from projects.modular_star_encoder.tokens import Batch, batched, load_marked_tokenizer, marked_up, pieces


class Classifier(nn.Module):
    """A linear classifier on <cls> at each exit of a whole trunk."""

    def __init__(self, sizes: TrunkSizes, tokens: int, exits: tuple[int, ...]):
        super().__init__()
        check_exits(exits, sizes.layers)
        self.trunk = Trunk(sizes.config(tokens), max(exits), sizes.recompute)
        self.heads = nn.ModuleDict({str(i): nn.Linear(sizes.hidden, 2) for i in exits})

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[int, Tensor]:
        """Logits [B, 2] of "different" and "clone" by exit."""
        states = self.trunk(input_ids, attention_mask)
        return {int(i): head(pool(states[int(i)], attention_mask)).float() for i, head in self.heads.items()}


class CloneDetection(L.LightningModule):
    """L = sum over exits of alpha_i times the cross entropy: whether two functions do the same.

    Args:
        sizes: of the whole trunk.
        exits: layers, counted from 1, that get a classifier.
        tokens: size of the vocabulary; follows from the data.
        trunk: a pre-trained trunk, to train from.
        weights: a trained classifier, to measure; one of the two is needed.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        sizes: TrunkSizes,
        exits: tuple[int, ...],
        tokens: int,
        trunk: str | None = None,
        weights: str | None = None,
        lr: float = 1e-5,
        weight_decay: float = 0.1,
        warmup_steps: int = 2000,
    ):
        super().__init__()
        self.net = Classifier(sizes, tokens, exits)
        if weights is not None:
            load_weights(self.net, expand(weights, "model.weights"))
        elif trunk is not None:
            load_trunk(self.net.trunk, trunk, "model.trunk")
        else:
            raise UserError("give --model.trunk to train from, or --model.weights to measure")
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.alphas = dict(zip(exits, exit_weights(exits, sizes.layers), strict=True))
        self.depths = {i: round(100 * i / sizes.layers) for i in exits}
        self.f1 = nn.ModuleDict({str(i): BinaryF1Score() for i in exits})

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self.net(batch["input_ids"], batch["attention_mask"])
        losses = [alpha * F.cross_entropy(logits[i], batch["labels"]) for i, alpha in self.alphas.items()]
        loss = torch.stack(losses).sum()
        self.log("train/loss", loss)
        return loss

    def _count(self, batch: Batch) -> None:
        for i, logits in self.net(batch["input_ids"], batch["attention_mask"]).items():
            self.f1[str(i)].update(logits.argmax(-1), batch["labels"])

    def _log_f1(self, part: str) -> None:
        for i, depth in self.depths.items():
            self.log(f"{part}/f1_{depth}", self.f1[str(i)].compute())
            self.f1[str(i)].reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._count(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_f1("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._count(batch)

    def on_test_epoch_end(self) -> None:
        self._log_f1("test")

    def configure_optimizers(self) -> dict[str, Any]:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def exported(self) -> Classifier:
        return self.net


class ClonePairs(L.LightningDataModule):
    """Pairs of functions as "<sep>first<sep>second<cls>", each cut to half of the window.

    Args:
        pairs: labelled pairs.
        tokenizer: folder or hub id.
        max_length: tokens of an input.
        batch_size: pairs per step and process.
        eval_batch_size: pairs per step of validation and test.
        num_workers: processes that make batches.
        seed: order of the pairs.
    """

    def __init__(
        self,
        pairs: TextSource,
        tokenizer: str,
        max_length: int = 2048,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.source, self.tokenizer, self.max_length = pairs, load_marked_tokenizer(tokenizer), max_length
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed

    @property
    def tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.tokenizer)

    def setup(self, stage: str) -> None:
        self.pairs = self.source.read("train") if stage == "fit" else []

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, rng: np.random.Generator) -> LabelledText:
        return self.pairs[index]

    def collate(self, pairs: list[LabelledText]) -> Batch:
        room = (self.max_length - 3) // 2
        first = pieces(self.tokenizer, [pair.text for pair in pairs], room)
        second = pieces(self.tokenizer, [pair.pair or "" for pair in pairs], room)
        rows = [marked_up(self.tokenizer, parts) for parts in zip(first, second, strict=True)]
        labels = torch.tensor([pair.label for pair in pairs])
        return {**batched(rows, self.tokenizer.pad_token_id), "labels": labels}

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, self.num_workers, self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.source.read("val"), self.eval_batch_size, collate_fn=self.collate)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.source.read("test"), self.eval_batch_size, collate_fn=self.collate)


def links(parser: Any) -> None:
    """One seed; the vocabulary follows from the data."""
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(CloneDetection, ClonePairs, links=links)
