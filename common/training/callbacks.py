"""Callbacks that every training stage has: the non-finite guard, progress for people and the cost of a run."""

import math
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UserError
from common.training.checkpoints import last_good
from common.training.flops import flop_counter
from common.training.runs import write_json


class NonFiniteGuard(L.Callback):
    """Stops a run whose loss or gradient is not finite, before the optimiser spreads it into the weights.

    Raises:
        UserError: with the step, the batch and the last good checkpoint.
    """

    def __init__(self, checkpoint_folder: Path):
        self.folder = checkpoint_folder
        self._batch = 0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch_idx

    def on_before_backward(self, trainer: L.Trainer, module: L.LightningModule, loss: torch.Tensor) -> None:
        finite = bool(torch.isfinite(loss))
        if trainer.strategy.reduce_boolean_decision(not finite, all=False):  # stop together: none waits for another
            self._stop(trainer, "the loss of another process is not finite" if finite else f"the loss is {loss.item()}")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return  # float16: the scaler skips such a step by itself, and lowers its scale
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self._stop(trainer, "the gradient is not finite")

    def _stop(self, trainer: L.Trainer, what: str) -> None:
        good = last_good(self.folder)
        raise UserError(
            f"{what} at step {trainer.global_step} (epoch {trainer.current_epoch}, batch {self._batch}); the weights "
            f"were not touched. Last good checkpoint: {good or 'none yet'}. Lower the learning rate, or find the "
            "operation with --trainer.detect_anomaly true, which continues from that checkpoint."
        )


class StopOnSignal(L.Callback):
    """Ends a run between two steps when it is told to: SIGUSR1 says that its time is nearly up, SIGTERM that it is.

    SIGUSR1 leaves time for a checkpoint first (`StepCheckpoints` asks `wanted`); evaluations, which cannot be
    continued, ignore it. For SIGTERM Lightning itself looks while it trains and evaluates.
    """

    def __init__(self) -> None:
        self._asked = False

    def listen(self) -> None:
        """Take SIGUSR1. With a handler in place Lightning sets up none of its own, which would save in mid-step."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def wanted(self, trainer: L.Trainer) -> bool:
        """Whether any of the processes was sent SIGUSR1; all processes have to ask at the same step."""
        if trainer.world_size == 1:
            return self._asked
        return trainer.strategy.reduce_boolean_decision(self._asked, all=False)

    def on_predict_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.received_sigterm or self._asked:
            raise SIGTERMException


class Cost(L.Callback):
    """What a run cost: seconds of training; floating-point operations, forward and backward, on all processes.

    Operations are counted with torch's counter (a multiply-add is two) on the first step of each kind, and multiplied
    by the steps of that kind. Steps are of one kind, unless the module has a `step_kinds` with the names of several; it
    then says in `step_kind` of which the last step was.
    The seconds of interrupted attempts count too, up to their last checkpoint.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.step_flops: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self._cpu_before = 0.0
        self._since: float | None = None
        self._counter: FlopCounterMode | None = None

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"seconds": self._elapsed(), "step_flops": self.step_flops, "steps": self.steps}
        return found | {"cpu_seconds": self.cpu_seconds()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self._cpu_before = float(state["seconds"]), float(state["cpu_seconds"])
        self.step_flops, self.steps = dict(state["step_flops"]), dict(state["steps"])

    def _elapsed(self) -> float:
        return self.seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._since = time.monotonic()

    def _start_counting(self, module: L.LightningModule) -> None:
        unknown = any(kind not in self.step_flops for kind in getattr(module, "step_kinds", ("",)))
        if unknown and "STAND_INS" not in os.environ:  # a rehearsal's figures mean nothing; counting is slow
            self._counter = flop_counter()
            self._counter.__enter__()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None

    def _count(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        kind = str(getattr(module, "step_kind", ""))
        self.steps[kind] = self.steps.get(kind, 0) + 1
        if self._counter is not None:
            self.step_flops.setdefault(kind, self._counter.get_total_flops() * trainer.world_size)
            self._stop_counting()

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._start_counting(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._count(trainer, module)

    def on_predict_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._start_counting(module)

    def on_predict_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._count(trainer, module)

    def on_exception(self, *_: Any) -> None:
        self._stop_counting()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seconds, self._since = self._elapsed(), None

    def cpu_seconds(self) -> float:
        """Seconds that processors worked for this process, and for its data loaders' once they have ended."""
        loaders = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self._cpu_before + time.process_time() + loaders.ru_utime + loaders.ru_stime

    def total(self) -> dict[str, float]:
        """Seconds and operations so far."""
        flops = sum(count * self.step_flops.get(kind, 0) for kind, count in self.steps.items())
        return {"seconds": self._elapsed(), "flops": float(flops)}


class ProgressFile(L.Callback):
    """Writes the step, the loss and the expected end to `progress.json` twice a second, for whoever watches the run."""

    def __init__(self, path: Path):
        self.path = path
        self._start, self._first, self._written = 0.0, 0, 0.0

    def _write(self, trainer: L.Trainer, step: int, total: Callable[[], float], outputs: Any = None) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._written < 0.5:
            return
        self._written = now
        end = total()
        loss = outputs["loss"].item() if isinstance(outputs, dict) and "loss" in outputs else None
        left = (end - step) * (now - self._start) / max(1, step - self._first)
        write_json(
            self.path,
            {
                "step": step,
                "total": int(end) if math.isfinite(end) else None,
                "loss": loss if loss is not None and math.isfinite(loss) else None,
                "seconds_left": left if math.isfinite(left) else None,
            },
        )

    def _begin(self, step: int) -> None:
        self._start, self._first = time.monotonic(), step

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self._write(trainer, trainer.global_step, lambda: trainer.estimated_stepping_batches, outputs)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(0)

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin(0)

    def on_test_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._write_evaluation(trainer, trainer.num_test_batches, batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._write_evaluation(trainer, trainer.num_predict_batches, batch_idx, dataloader_idx)

    def _write_evaluation(self, trainer: L.Trainer, batches: list[int | float], batch_idx: int, loader: int) -> None:
        self._write(trainer, int(sum(batches[:loader])) + batch_idx + 1, lambda: sum(batches))
