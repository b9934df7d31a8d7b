"""Batches that depend on nothing but a seed and a position: a resumed run sees what an undisturbed one would."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.errors import UserError

WINDOW = 8
"""Blocks whose samples are shuffled among each other."""


class Draws(Protocol):
    """Samples of a data set; whatever is random in one (crops, prompts, noise) comes from the generator alone.

    Samples that lie in blocks (row groups of a file), which are read whole, say so in an attribute `blocks`, the sizes.
    """

    def __len__(self) -> int: ...

    def draw(self, index: int, rng: np.random.Generator) -> Any: ...


def shuffled(count: int, blocks: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """An order of the samples 0 to count - 1, each once: any permutation, or one that reads few blocks at a time.

    Args:
        blocks: sizes of the blocks in which they lie, `count` in all; empty where any sample is as near as another.
            The blocks are shuffled, and then the samples of every WINDOW of them.
    """
    if not len(blocks):
        return rng.permutation(count)
    members = np.split(np.arange(count), np.cumsum(blocks)[:-1])
    turns = rng.permutation(len(blocks))
    windows = [turns[k : k + WINDOW] for k in range(0, len(turns), WINDOW)]
    return np.concatenate([rng.permutation(np.concatenate([members[b] for b in window])) for window in windows])


class Stream(Dataset):
    """An endless shuffled view: position p is sample order_e(p mod n) of epoch e = p // n, with its own generator."""

    def __init__(self, samples: Draws, seed: int):
        self.samples, self.seed = samples, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Any:
        epoch, offset = divmod(position, len(self.samples))
        if epoch != self._epoch:
            self._epoch = epoch
            rng, blocks = np.random.default_rng((self.seed, 0, epoch)), getattr(self.samples, "blocks", ())
            self._order = shuffled(len(self.samples), blocks, rng)
        return self.samples.draw(int(self._order[offset]), np.random.default_rng((self.seed, 1, position)))


class StreamSampler(Sampler[int]):
    """Positions of one epoch for one process: every `world_size`-th, whole batches only, from `start` batches on.

    `start` counts batches of the first epoch that were already trained on; later epochs begin at their beginning.
    """

    def __init__(self, samples: int, batch_size: int, rank: int = 0, world_size: int = 1, start: int = 0):
        self.samples, self.batch_size = samples, batch_size
        self.rank, self.world_size, self.start = rank, world_size, start
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples // (self.batch_size * self.world_size) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        first = self.epoch * self.samples
        for k in range(start * self.batch_size, len(self)):
            yield first + k * self.world_size + self.rank


def stream_loader(
    samples: Draws,
    batch_size: int,
    trainer: Any,
    seed: int = 0,
    num_workers: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """A training loader that continues where `trainer`'s restored loop stands.

    Args:
        batch_size: per process. An epoch is len(samples) // (batch_size * world_size) batches.
        trainer: a Lightning trainer; its restored batch counter says how many batches of this epoch are behind.

    Raises:
        UserError: when there are fewer samples than one global batch.
    """
    world = trainer.world_size
    if len(samples) < batch_size * world:
        processes = f" on each of {world} processes" if world > 1 else ""
        raise UserError(
            f"{len(samples)} training samples do not fill one batch of {batch_size}{processes}: "
            "lower the batch size, or give more data"
        )
    progress = trainer.fit_loop.epoch_loop.batch_progress
    done = 0 if progress.is_last_batch else progress.current.ready
    sampler = StreamSampler(len(samples), batch_size, trainer.global_rank, world, start=done)
    sampler.set_epoch(trainer.current_epoch)
    return DataLoader(
        Stream(samples, seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader's own draws must not advance the global generator
    )
