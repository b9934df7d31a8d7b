"""Callbacks that every training stage has: the non-finite guard, progress for people and the cost of a run."""

import json
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UserError
from common.training.checkpoints import last_good


class NonFiniteGuard(L.Callback):
    """Stops a run whose loss is not finite, before the optimiser spreads it into the weights.

    Raises:
        UserError: with the step, the batch and the last good checkpoint.
    """

    def __init__(self, checkpoint_folder: Path):
        self.folder = checkpoint_folder
        self._batch = 0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch_idx

    def on_before_backward(self, trainer: L.Trainer, module: L.LightningModule, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            good = last_good(self.folder)
            raise UserError(
                f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch}, batch "
                f"{self._batch}). Last good checkpoint: {good or 'none yet'}. "
                "Lower the learning rate, or continue from that checkpoint with --trainer.detect_anomaly true to find the operation."
            )


class Cost(L.Callback):
    """What a run cost: seconds of training, and floating-point operations (forward and, in training, backward) on all processes.

    Operations are counted on the first step with torch's counter (a multiply-add is two) and multiplied by the steps.
    The seconds of interrupted attempts count too, up to their last checkpoint.
    """

    def __init__(self) -> None:
        self.seconds, self.step_flops, self.steps = 0.0, 0, 0
        self._since: float | None = None
        self._counter: FlopCounterMode | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._elapsed(), "step_flops": self.step_flops, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.step_flops, self.steps = state["seconds"], state["step_flops"], state["steps"]

    def _elapsed(self) -> float:
        return self.seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        if not self.step_flops:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.steps += 1
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.step_flops = self._counter.get_total_flops() * trainer.world_size
            self._counter = None

    on_predict_batch_start = on_train_batch_start
    on_predict_batch_end = on_train_batch_end

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seconds, self._since = self._elapsed(), None

    def total(self) -> dict[str, float]:
        """Seconds and operations so far."""
        return {"seconds": self._elapsed(), "flops": float(self.step_flops * self.steps)}


class ProgressFile(L.Callback):
    """Writes the step, the loss and the expected end to `progress.json` twice a second, for whoever watches the run."""

    def __init__(self, path: Path):
        self.path = path
        self._start, self._first, self._written = 0.0, 0, 0.0

    def _write(self, trainer: L.Trainer, step: int, total: int, loss: float | None) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or (now - self._written < 0.5 and step < total):
            return
        self._written = now
        speed = (step - self._first) / max(now - self._start, 1e-9)
        left = (total - step) / speed if speed > 0 else None
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"step": step, "total": total, "loss": loss, "seconds_left": left}))
        os.replace(temporary, self.path)

    def _begin(self, step: int) -> None:
        self._start, self._first = time.monotonic(), step

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        loss = outputs["loss"].item() if isinstance(outputs, dict) and "loss" in outputs else None
        self._write(trainer, trainer.global_step, int(trainer.estimated_stepping_batches), loss)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(0)

    def on_test_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._write(trainer, batch_idx + 1, int(sum(trainer.num_test_batches)), None)

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(0)

    def on_predict_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._write(trainer, batch_idx + 1, int(sum(trainer.num_predict_batches)), None)
