"""Checkpoints of a stage: written whole, found again, with what resuming needs beyond Lightning's own state."""

import logging
import os
import random
import re
import traceback
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from common.errors import UserError
from common.training.weights import sums_hold

log = logging.getLogger(__name__)
KEPT = 2


def checkpoints(folder: Path) -> list[Path]:
    """Step checkpoints of a run, newest first."""
    files = folder.glob("step=*.ckpt")
    steps = [(int(name[1]), file) for file in files if (name := re.fullmatch(r"step=([0-9]{1,18})\.ckpt", file.name))]
    return [file for _, file in sorted(steps, reverse=True)]


def readable(path: Path) -> bool:
    """Whether a checkpoint is whole, to the bit.

    Nothing is loaded for it, however large the file is; but one in torch's format before 1.6, without checksums, is.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1)
        if start == b"P":
            return sums_hold(path)
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # RuntimeError, EOFError, UnpicklingError, OSError, ...
        return False
    return True


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint that can be read whole; a truncated one is reported and skipped."""
    found = checkpoints(folder)
    for path, *older in (found[k:] for k in range(len(found))):
        if readable(path):
            return path
        log.warning("%s is truncated or damaged; %s", path, f"trying {older[0]}" if older else "starting afresh")
    return None


def failed_while_restoring(error: BaseException) -> bool:
    """Whether an error arose while Lightning put a checkpoint's content back, or loaded it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        frame.f_code.co_filename == checkpoint_connector.__file__
        and frame.f_code.co_name.lstrip("_").startswith(("restore", "resume"))
        for frame in frames
    )


def unfit_checkpoint(path: str, error: BaseException) -> UserError:
    """The user's message for a checkpoint that is whole, and does not go with this stage."""
    if isinstance(error, OSError):
        return UserError(f"{path} cannot be read: {error}; correct --ckpt_path.")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:3])[:300] or type(error).__name__
    reason = f"it has no {reason}" if isinstance(error, KeyError) else reason
    return UserError(
        f"{path} does not fit this stage: {reason}. It was written by another model, other settings or another "
        "version: give the checkpoint that belongs to them, or begin anew in another --run_dir."
    )


def _has_nan(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.isnan().any())


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint straight to its path, where Lightning takes the way through the system's temporary folder.

    Reading, it makes sure that there is in it what a stage needs.

    Args:
        resuming: whether trainings are resumed; an evaluation takes nothing but the weights.
    """

    def __init__(self, resuming: bool):
        super().__init__()
        self.resuming = resuming

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            content = super().load_checkpoint(path, *args, **kwargs)
        except Exception as error:
            if "://" in str(path):  # a protocol's own errors: a package that lacks, no network, no rights
                raise OSError(str(error) or type(error).__name__) from error
            raise
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}, not a checkpoint of Lightning")
        kinds = {"state_dict": Mapping, "pytorch-lightning_version": str}
        kinds |= {"callbacks": Mapping, "loops": Mapping} if self.resuming else {}
        for key, kind in kinds.items():
            if not isinstance(content.get(key), kind):
                raise TypeError(f"its '{key}' is {'of another kind' if key in content else 'missing'}")
        if bad := [name for name, value in content["state_dict"].items() if _has_nan(value)]:
            raise TypeError(f"{len(bad)} of its weights hold NaN, {bad[0]} first")
        lacking = {StepCheckpoints.__name__, RandomState.__name__, "Cost"} - content.get("callbacks", {}).keys()
        if self.resuming and lacking:
            raise TypeError(f"it lacks the state of {', '.join(sorted(lacking))}, without which a run does not resume")
        if not self.resuming:
            content.pop("callbacks", None)
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = BytesIO()  # torch.save into a file would hide a full disk behind a RuntimeError
        torch.save(checkpoint, content)
        with open(path, "wb") as file:
            file.write(content.getbuffer())


class StepCheckpoints(Checkpoint):
    """Saves every so many training steps as `step=<N>.ckpt`, and keeps the two newest.

    A step that validation follows is saved after it, so that a run resumed from there has the validation's metrics too.

    Args:
        folder: where the checkpoints go.
        every: training steps between them.
        stopping: asked after every step; True saves that step and ends the run.

    Raises:
        SIGTERMException: when the run was to be stopped and the checkpoint is written.
    """

    def __init__(self, folder: Path, every: int, stopping: Callable[[L.Trainer], bool] = lambda _: False):
        self.folder, self.every, self.stopping = folder, every, stopping
        self.metrics: dict[str, float] = {}
        """The latest value of every metric at the checkpoint that the run was resumed from."""
        self._saved, self._step, self._due, self._stop = 0, 0, False, False
        self._restored: tuple[int, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics = {str(name): float(value) for name, value in state["metrics"].items()}

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = len(checkpoint["optimizer_states"]), len(checkpoint["lr_schedulers"])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        own = len(trainer.optimizers), len(trainer.lr_scheduler_configs)
        if self._restored not in (None, own):  # Lightning takes as many as there are
            what = "it has {} optimizers and {} schedules, where the stage has {} and {}".format(*self._restored, *own)
            raise unfit_checkpoint(str(trainer.ckpt_path), ValueError(what))
        self._saved = self._step = trainer.global_step
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self._stop:  # not before the step's figures were logged
            trainer.strategy.barrier()  # the checkpoint is in its place before any process ends
            raise SIGTERMException

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:
            return  # in the middle of accumulating gradients
        loop, self._step = trainer.fit_loop.epoch_loop, trainer.global_step
        self._stop = self.stopping(trainer)
        self._due = self._stop or trainer.global_step // self.every > self._saved // self.every
        validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
        if self._due and (loop.val_loop.skip or not validates):  # a loop without data is skipped
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._due:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        step, self._due = trainer.global_step, False
        self.metrics |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        temporary = self.folder / ".saving"
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                os.replace(temporary, self.folder / f"step={step}.ckpt")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._saved = step
        if trainer.is_global_zero:
            for old in checkpoints(self.folder)[KEPT:]:
                old.unlink()


class RandomState(L.Callback):
    """Keeps the random generators of Python, NumPy and torch (CPU and CUDA) in the checkpoint.

    They are put back before the first resumed batch, after everything that start-up draws.
    """

    def __init__(self) -> None:
        self._restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        version, words, gauss_next = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss],
            "python": [version, list(words), gauss_next],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        name, keys, position, has_gauss, gauss = state["numpy"]
        version, words, gauss_next = state["python"]
        self._restore = {
            "torch": state["torch"].cpu(),
            "cuda": [cuda.cpu() for cuda in state["cuda"]],
            "numpy": (name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss),
            "python": (version, tuple(words), gauss_next),
        }
        torch.Generator().set_state(self._restore["torch"])  # what is wrong with them shows here, not in mid-training
        np.random.RandomState().set_state(self._restore["numpy"])
        random.Random().setstate(self._restore["python"])

    def on_train_batch_start(self, *_: Any) -> None:
        if self._restore is None:
            return
        state, self._restore = self._restore, None
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        np.random.set_state(state["numpy"])
        random.setstate(state["python"])
