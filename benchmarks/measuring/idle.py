"""A stage that trains nothing for two steps, and times its parts: `benchmarks.measuring.starting` runs it."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common import cli
from common.training import tracking

STARTED = "IDLE_STARTED"
"""Variable with the monotonic clock's time at which the worker was asked for."""
WORKER = "start the worker"
PARTS: list[tuple[str, Any, str]] = [
    ("build the parser", LightningCLI, "setup_parser"),
    ("read the command line", cli.StageCLI, "parse_arguments"),
    ("take the run folder", cli.StageCLI, "before_instantiate_classes"),
    ("model, data, trainer", cli.StageCLI, "instantiate_classes"),
    ("start W&B", tracking, "start_run"),
    ("two steps", L.Trainer, "fit"),
    ("write what it leaves", cli.StageCLI, "_conclude"),
    ("end W&B", tracking, "end_run"),
    ("the rest", cli, "main"),
]


class Idle(L.LightningModule):
    """One weight and a loss that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Ones(L.LightningDataModule):
    """Two batches."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.ones(2, 1))  # type: ignore[arg-type]


class Clock:
    """Seconds by the clock and of the processor that functions take, less those of timed functions that they call."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {name: [0.0, 0.0] for name, _, _ in PARTS}
        self.running: list[str] = []
        self.since = [time.perf_counter(), time.process_time()]

    def switch(self) -> None:
        """Charge the time since the last switch to what is running."""
        now = [time.perf_counter(), time.process_time()]
        if self.running:
            self.spent[self.running[-1]] = [
                old + end - start for old, end, start in zip(self.spent[self.running[-1]], now, self.since, strict=True)
            ]
        self.since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self.running.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self.running.pop()

        return call


def main() -> None:
    """Run the stage; leaves `parts.json`: seconds by the clock and of the processor for each part."""
    clock = Clock()
    for name, owner, function in PARTS:
        setattr(owner, function, clock.timed(name, getattr(owner, function)))
    begun = [time.perf_counter() - float(os.environ[STARTED]), time.process_time()]
    cli.main(Idle, Ones)
    Path(sys.argv[-1], "parts.json").write_text(json.dumps({WORKER: begun, **clock.spent}), encoding="utf-8")


if __name__ == "__main__":
    main()
