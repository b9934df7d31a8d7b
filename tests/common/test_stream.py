"""Batches follow from a seed and a position alone; unreadable samples are passed over, up to a point."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.data.scene import UnreadableSample
from common.data.stream import WINDOW, Stream, StreamSampler, shuffled, stream_loader
from common.data.tolerant import Tolerant
from common.errors import UserError


class Numbered:
    """Draws that show which sample and which random number they were given."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def draw(self, index: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.tensor([index, rng.uniform()], dtype=torch.float64)


def trainer(epoch: int = 0, done: int = 0, last: bool = False, rank: int = 0, world: int = 1) -> Any:
    """What `stream_loader` asks a trainer for: its restored loop, and its place among the processes."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=done), is_last_batch=last)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(fit_loop=loop, current_epoch=epoch, global_rank=rank, world_size=world)


def batches(size: int = 26, batch: int = 4, seed: int = 0, workers: int = 0, **where: Any) -> list[torch.Tensor]:
    return list(stream_loader(Numbered(size), batch, trainer(**where), seed, workers))


def test_an_epoch_is_a_permutation_and_the_next_one_another() -> None:
    stream = Stream(Numbered(10), seed=3)
    epochs = [[int(stream[10 * epoch + k][0]) for k in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_position_is_the_same_whenever_it_is_asked_for() -> None:
    stream, again = Stream(Numbered(10), seed=3), Stream(Numbered(10), seed=3)
    forwards = {position: stream[position] for position in range(30)}
    for position in reversed(range(30)):
        assert torch.equal(again[position], forwards[position])
    assert len({float(draw[1]) for draw in forwards.values()}) == 30  # the same sample is drawn anew in each epoch
    assert any(not torch.equal(Stream(Numbered(10), seed=4)[p], forwards[p]) for p in range(10))


def test_samples_in_blocks_come_a_few_blocks_at_a_time_and_each_once() -> None:
    sizes = [3, 7, 1] * 11
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order = shuffled(sum(sizes), sizes, np.random.default_rng(0))
    assert sorted(order) == list(range(sum(sizes))) and order.tolist() != sorted(order)
    seen = owner[order]
    lasting = [int(np.flatnonzero(seen == block).max() - np.flatnonzero(seen == block).min()) for block in set(seen)]
    assert max(lasting) < 7 * WINDOW  # no block is left and taken up again later
    assert len(set(seen[:20])) > 2  # but blocks are mixed
    stream = Stream(Numbered(sum(sizes)), seed=3)
    whole = [int(stream[k][0]) for k in range(sum(sizes))]
    stream.samples.blocks = tuple(sizes)  # type: ignore[attr-defined]
    stream._epoch = -1
    found = [int(stream[k][0]) for k in range(sum(sizes))]
    assert sorted(found) == sorted(whole) and found != whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_where_the_other_stopped(workers: int) -> None:
    whole = batches(epoch=1)
    assert len(whole) == 6
    for done in range(6):
        rest = batches(epoch=1, done=done, workers=workers)
        assert torch.equal(torch.stack(rest), torch.stack(whole[done:]))


def test_after_the_last_batch_of_an_epoch_the_next_begins_at_its_beginning() -> None:
    assert torch.equal(torch.stack(batches(epoch=2, done=6, last=True)), torch.stack(batches(epoch=2)))


def test_only_the_resumed_epoch_is_short() -> None:
    sampler = StreamSampler(26, 4, start=4)
    assert list(sampler) == list(range(16, 24))
    sampler.set_epoch(1)
    assert list(sampler) == list(range(26, 50))


def test_processes_share_an_epoch_without_overlap() -> None:
    parts = [batches(batch=3, rank=rank, world=4) for rank in range(4)]
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    seen = [int(index) for part in parts for batch in part for index in batch[:, 0]]
    assert len(seen) == len(set(seen)) == 24
    together = [torch.stack([part[k] for part in parts], 1).flatten(0, 1) for k in range(2)]
    assert torch.equal(torch.stack(together), torch.stack(batches(batch=12)))  # the same batches, whoever sees them


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("world", "said"), [(1, "3 training samples do not fill one batch of 4:"), (2, "each of 2")])
def test_too_few_samples_are_the_users_error(world: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        batches(size=3 * world, world=world)


class Broken(Dataset):
    """Numbers, of which some cannot be read."""

    def __init__(self, size: int, broken: set[int]):
        self.size, self.broken = size, broken

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if index in self.broken:
            raise UnreadableSample(f"folder/{index}.jpg", "cannot be decoded")
        return index


def tolerant(size: int, broken: set[int]) -> Any:
    return Tolerant(Broken(size, broken))  # type: ignore[arg-type]


def test_the_next_readable_sample_takes_its_place_and_the_path_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = tolerant(3000, {5, 6, 2999})
    with caplog.at_level(logging.WARNING):
        assert [source[index] for index in (4, 5, 6, 7, 2999, 5)] == [4, 7, 7, 7, 0, 7]
    assert [record.getMessage() for record in caplog.records] == [
        "unreadable sample 1 of 3000: folder/5.jpg: cannot be decoded",
        "unreadable sample 2 of 3000: folder/6.jpg: cannot be decoded",
        "unreadable sample 3 of 3000: folder/2999.jpg: cannot be decoded",
    ]
    assert list(source.unreadable) == [5, 6, 2999]


@pytest.mark.parametrize(("size", "tolerated"), [(3000, 3), (2999, 2), (999, 0)])
def test_one_sample_in_a_thousand_is_tolerated(size: int, tolerated: int) -> None:
    broken = set(range(0, 2 * (tolerated + 1), 2))
    source = tolerant(size, broken)
    *passed, last = sorted(broken)
    assert [source[index] for index in passed] == [index + 1 for index in passed]
    with pytest.raises(UserError) as error:
        source[last]
    said = str(error.value)
    assert f"{tolerated + 1} of {size} samples cannot be read, more than the tolerated 0.1 %" in said
    assert all(f"folder/{index}.jpg: cannot be decoded" in said for index in broken) and "remove them" in said


def test_only_samples_that_cannot_be_read_are_passed_over() -> None:
    class Failing(Broken):
        def __getitem__(self, index: int) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Tolerant(Failing(10, set()))[0]  # type: ignore[arg-type]


def test_the_processes_of_a_loader_count_together() -> None:
    source = tolerant(1000, {0, 3})  # one is tolerated; each of two processes meets one
    with pytest.raises(UserError, match="2 of 1000 samples cannot be read"):
        list(DataLoader(source, batch_size=1, num_workers=2))
