"""A stage of a few small steps in which all random generators matter: what the tests of the command line run.

python -m tests.common.tiny_stage fit --run_dir <folder> [--model.disturb kill@train_batch:5]
"""

import multiprocessing as mp
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.cli import main
from common.data.scene import UnreadableSample
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError
from common.training.runs import save_picture
from common.training.schedules import adamw, optimizer_steps

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "usr1": signal.SIGUSR1, "interrupt": signal.SIGINT}


class Extra:
    """A part of the model that may be left out, and refuses to be made where it is told to say something."""

    def __init__(self, says: str = "", inner: "Extra | None" = None):
        if says:
            raise UserError(says)


class TinyModel(L.LightningModule):
    """A regression with dropout and with noise from torch, NumPy and Python.

    Args:
        lr: peak learning rate.
        disturb: `<what>@<hook>:<step>`, once per run folder: `kill`, `term`, `usr1` or `interrupt` sends that signal to
            this process, `nan` makes the loss not finite, `nan_grad` only its gradient.
        extra: what may be left out.
        extras: more of that.
    """

    def __init__(
        self,
        lr: float = 0.05,
        disturb: str = "",
        extra: Extra | None = None,
        extras: dict[str, int | list[None | Extra]] | None = None,
    ):
        super().__init__()
        self.lr, self.disturb = lr, disturb
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    def _struck(self, hook: str, step: int) -> str:
        """What befalls the run here and now."""
        what, _, when = self.disturb.partition("@")
        marker = Path(self.run_dir, "disturbed")
        if when != f"{hook}:{step}" or marker.exists():
            return ""
        marker.touch()
        if what in SIGNALS:
            os.kill(os.getpid(), SIGNALS[what])
        return what

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        struck = self._struck("train", self.global_step)
        noise = 0.1 * torch.rand(()) + 0.01 * random.random() + 0.01 * float(np.random.rand())
        loss = (self.net(batch) - batch.sum(1, keepdim=True) - noise).square().mean()
        self.log("train/loss", loss)
        if struck == "nan":
            return loss * float("nan")
        if struck == "nan_grad":
            zero = (self.net[0].weight - self.net[0].weight.detach()).square().sum()
            return loss + zero.sqrt()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._struck("val", self.global_step)
        self.log("val/error", (self.net(batch) - batch.sum(1, keepdim=True)).abs().mean() + torch.rand(()))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self._struck("test", batch_idx)
        self.log("test/error", (self.net(batch) - batch.sum(1, keepdim=True)).abs().mean())
        save_picture(self.run_dir, f"sample {batch_idx}", np.full((4, 4, 3), 99, np.uint8), "a picture")

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        self._struck("predict", batch_idx)

    def on_train_end(self) -> None:
        self._struck("end", 0)

    def configure_optimizers(self) -> dict[str, Any]:
        return adamw(self.parameters(), self.lr, 0.01, 2, optimizer_steps(self.trainer))


class Numbers:
    """Four numbers per index; the first `broken` samples cannot be read."""

    def __init__(self, size: int, broken: int):
        self.size, self.broken = size, broken

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        if index < self.broken:
            raise UnreadableSample(f"numbers/{index}.npy", "cannot be decoded")
        return np.random.default_rng(index).normal(size=4).astype(np.float32)


class Draws:
    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, index: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.source[index] + rng.normal(scale=0.1, size=4).astype(np.float32))


class TinyData(L.LightningDataModule):
    """A stream of numbers.

    Args:
        size: samples of an epoch.
        broken: how many of them cannot be read.
        num_workers: processes that load data.
    """

    def __init__(self, size: int = 26, broken: int = 0, num_workers: int = 0, seed: int = 0):
        super().__init__()
        self.source = Tolerant(Numbers(size, broken))
        self.num_workers, self.seed = num_workers, seed

    def train_dataloader(self) -> DataLoader:
        return stream_loader(Draws(self.source), 4, self.trainer, self.seed, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Numbers(8, 0), batch_size=4, generator=torch.Generator())  # type: ignore[arg-type]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


def links(parser: Any) -> None:
    parser.link_arguments("seed_everything", "data.seed", compute_fn=lambda seed: int(seed))


def start(argv: list[str], log: Path, environment: dict[str, str] | None = None) -> mp.Process:
    """Run the stage in a process forked from one that has the imports behind it; its output goes to `log`."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["tests.common.tiny_stage"])
    # the server has the variables of the test that happened to need it first
    process = context.Process(target=_body, args=(argv, log, {**os.environ, **(environment or {})}))
    process.start()
    return process


def _body(argv: list[str], log: Path, environment: dict[str, str]) -> None:
    with open(log, "a") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    mp.set_start_method(None, force=True)  # the stage's own processes start as they would without the server
    os.environ.clear()
    os.environ.update({"WANDB_MODE": "disabled", **environment})
    sys.argv = ["tiny_stage.py", *argv]
    main(TinyModel, TinyData, links=links)


if __name__ == "__main__":
    main(TinyModel, TinyData, links=links)
