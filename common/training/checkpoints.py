"""Finding the checkpoint to resume from, and everything a resumed run needs beyond Lightning's own state."""

import logging
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

log = logging.getLogger(__name__)


def checkpoints(folder: Path) -> list[Path]:
    """Step checkpoints of a run, newest first."""
    return sorted(folder.glob("step=*.ckpt"), key=lambda path: int(path.stem.split("=")[1]), reverse=True)


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint that can be read whole; a truncated one is reported and skipped."""
    for path in checkpoints(folder):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a torn zip raises RuntimeError, EOFError, UnpicklingError, OSError, ...
            log.warning("checkpoint %s cannot be read (%s); trying the one before it", path, type(error).__name__)
        else:
            return path
    return None


class RandomState(L.Callback):
    """Keeps the random generators of Python, NumPy and torch (CPU and CUDA) in the checkpoint.

    They are put back before the first resumed batch, after everything that start-up draws.
    """

    def __init__(self) -> None:
        self._restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state()
        version, words, gauss_next = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],  # type: ignore[union-attr]
            "python": [version, list(words), gauss_next],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._restore = state

    def on_train_batch_start(self, *_: Any) -> None:
        if self._restore is None:
            return
        state, self._restore = self._restore, None
        torch.set_rng_state(state["torch"].cpu())
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
        name, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
        version, words, gauss_next = state["python"]
        random.setstate((version, tuple(words), gauss_next))
