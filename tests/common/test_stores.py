"""Stores of precomputed rows: equal over any number of shards, resumable, refusing what does not belong together."""

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from common.data import stores
from common.data.stores import FLUSH_ROWS, ArrayStore
from common.errors import UserError


def row(index: int) -> np.ndarray:
    return np.random.default_rng(index).standard_normal((3, 4, 4)).astype(np.float32)


def begin(folder, length=10, rank=0, world_size=1, dtype="float32", key="teacher", names=None):
    return ArrayStore.create(folder, length, (3, 4, 4), dtype, rank, world_size, key=key, names=names)


def fill(folder, **settings):
    writer = begin(folder, **settings)
    for index in writer.missing().tolist():
        writer.write(index, row(index))
    return folder


@pytest.mark.parametrize("world_size", [1, 3, 16])
def test_any_number_of_shards_reads_the_same(tmp_path, world_size):
    for rank in range(world_size):
        fill(tmp_path, rank=rank, world_size=world_size)
    store = ArrayStore.open(tmp_path)
    assert len(store) == 10 and store.shape == (3, 4, 4) and store.dtype == np.float32
    assert all(np.array_equal(store[index], row(index)) for index in range(10))
    assert sum(1 for _ in store) == 10
    for outside in (-1, 10):
        with pytest.raises(IndexError):
            store[outside]


def test_float16_rounds_and_halves(tmp_path):
    fill(tmp_path, dtype="float16")
    store = ArrayStore.open(tmp_path)
    assert store[3].dtype == np.float16 and np.array_equal(store[3], row(3).astype(np.float16))
    assert (tmp_path / "shard-00000-of-00001.bin").stat().st_size == 10 * 48 * 2


def test_a_row_is_a_view_of_the_file(tmp_path):
    store = ArrayStore.open(fill(tmp_path))
    assert type(store[2]) is np.ndarray and not store[2].flags.owndata and not store[2].flags.writeable


def test_values_that_do_not_fit_float16(tmp_path):
    writer = begin(tmp_path, dtype="float16")
    with pytest.raises(UserError, match="row 4 .*not finite as float16.*float32"):
        writer.write(4, np.full((3, 4, 4), 1e6, np.float32))
    assert 4 in writer.missing()


def test_wrong_row_or_shape_is_refused(tmp_path):
    writer = begin(tmp_path, rank=1, world_size=2)
    for index, array in ((2, row(2)), (11, row(1)), (-1, row(1)), (1, row(1)[0])):
        with pytest.raises(ValueError):
            writer.write(index, array)


def test_unfinished_store_says_how_many_rows_are_missing(tmp_path):
    fill(tmp_path, rank=0, world_size=2)
    with pytest.raises(UserError, match="5 of 10 rows are missing.*predict.*computes only these"):
        ArrayStore.open(tmp_path)
    fill(tmp_path, rank=1, world_size=2)
    assert len(ArrayStore.open(tmp_path)) == 10


CRASH = """
import os, signal, sys
from tests.common.test_stores import begin, row
writer = begin(sys.argv[1], length=100)
for index in writer.missing().tolist()[:{rows}]:
    writer.write(index, row(index))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_is_continued(tmp_path):
    done = subprocess.run([sys.executable, "-c", CRASH.format(rows=FLUSH_ROWS + 7), str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    writer = begin(tmp_path, length=100)
    assert writer.missing().tolist() == list(range(FLUSH_ROWS, 100))  # only flushed rows count
    fill(tmp_path, length=100)
    store = ArrayStore.open(tmp_path)
    assert all(np.array_equal(store[index], row(index)) for index in range(100))


def test_rows_are_marked_only_after_their_data_is_on_the_disk(tmp_path, monkeypatch):
    writer = begin(tmp_path)
    marks = tmp_path / "shard-00000-of-00001.done"
    seen = []
    sync = os.fsync
    monkeypatch.setattr(stores.os, "fsync", lambda fd: (seen.append(marks.read_bytes().count(1)), sync(fd)))
    writer.write(0, row(0))
    writer.write(1, row(1))
    assert not seen and marks.read_bytes().count(1) == 0
    writer.flush()
    assert seen == [0, 2]  # the data's sync saw no mark yet


def test_finished_rows_are_left_as_they_are(tmp_path):
    fill(tmp_path)
    writer = begin(tmp_path)
    assert not len(writer.missing())
    writer.write(3, row(99))
    assert np.array_equal(ArrayStore.open(tmp_path)[3], row(3))


@pytest.mark.parametrize("change", ["deleted", "truncated"])
def test_marks_never_speak_for_lost_data(tmp_path, change):
    fill(tmp_path)
    shard = tmp_path / "shard-00000-of-00001.bin"
    if change == "deleted":
        shard.unlink()
    else:
        os.truncate(shard, 4 * 192 + 10)
    with pytest.raises(UserError, match=f"{10 if change == 'deleted' else 6} of 10 rows are missing"):
        ArrayStore.open(tmp_path)
    assert len(begin(tmp_path).missing()) == 10
    assert np.array_equal(ArrayStore.open(fill(tmp_path))[9], row(9))


@pytest.mark.parametrize(
    "change",
    [{"key": "student"}, {"length": 11}, {"dtype": "float16"}, {"world_size": 2}, {"names": list("abcdefghij")}],
)
def test_resuming_something_else_is_refused(tmp_path, change):
    begin(tmp_path)
    with pytest.raises(UserError, match="was begun differently") as error:
        begin(tmp_path, **change)
    assert str(tmp_path) in str(error.value)


def test_opening_under_another_key_is_refused(tmp_path):
    fill(tmp_path)
    assert ArrayStore.open(tmp_path, key="teacher").meta.key == "teacher"
    with pytest.raises(UserError, match="produced by 'teacher', not by 'student'"):
        ArrayStore.open(tmp_path, key="student")


def test_rows_belong_to_names(tmp_path):
    names = [f"sa_{index}" for index in range(10)]
    fill(tmp_path, names=names)
    assert ArrayStore.open(tmp_path, names=names).names == names
    swapped = [*names[:4], names[5], names[4], *names[6:]]
    with pytest.raises(UserError, match="row 4 of .* belongs to 'sa_4', sample 4 is 'sa_5'"):
        ArrayStore.open(tmp_path, names=swapped)
    with pytest.raises(UserError, match="rows of 10 samples, here are 9"):
        ArrayStore.open(tmp_path, names=names[:9])
    with pytest.raises(UserError, match="row 4"):
        begin(tmp_path, names=swapped)


def test_a_crash_between_allocation_and_marks(tmp_path, monkeypatch):
    """The shard was lost, its marks were not; the run that allocates it anew dies before it resets them."""
    fill(tmp_path)
    (tmp_path / "shard-00000-of-00001.bin").unlink()
    monkeypatch.setattr(stores, "write_atomic", lambda path, content: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path)
    monkeypatch.undo()
    assert len(begin(tmp_path).missing()) == 10


def test_a_process_without_rows(tmp_path):
    for _ in range(2):
        assert not len(begin(tmp_path, length=1, rank=1, world_size=2).missing())
    (tmp_path / "shard-00001-of-00002.done").unlink()
    assert not len(begin(tmp_path, length=1, rank=1, world_size=2).missing())


def test_no_store_and_damaged_store(tmp_path):
    with pytest.raises(UserError, match="no stored arrays at"):
        ArrayStore.open(tmp_path)
    fill(tmp_path)
    (tmp_path / "meta.json").write_text('{"length": 1')
    with pytest.raises(UserError, match="meta.json is damaged"):
        ArrayStore.open(tmp_path)


class Rows:
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return len(self.store)

    def __getitem__(self, index):
        return np.array(self.store[index])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(tmp_path, method):
    store = ArrayStore.open(fill(tmp_path))
    store[0]
    assert len(pickle.dumps(store)) < 1000
    context = multiprocessing.get_context(method)
    loader = DataLoader(Rows(store), batch_size=None, num_workers=2, multiprocessing_context=context)
    assert all(np.array_equal(array, row(index)) for index, array in enumerate(loader))


def test_too_little_space_is_said_at_creation(tmp_path, monkeypatch):
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UserError, match="1,920 bytes are needed, 100 are free"):
        begin(tmp_path)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_disk_that_fills_up_on_the_way(tmp_path, monkeypatch, call):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = None if call == "posix_fallocate" else begin(tmp_path)
    monkeypatch.setattr(stores.os, call, full, raising=False)
    with pytest.raises(UserError, match="disk is too small"):
        if writer is None:
            begin(tmp_path)
        else:
            writer.write(0, row(0))
            writer.flush()
    monkeypatch.undo()
    assert len(begin(tmp_path).missing()) == 10  # nothing was marked
    assert len(ArrayStore.open(fill(tmp_path))) == 10


SMALL_DISK = """
import sys
from pathlib import Path
from common.data import stores
from common.errors import UserError
if sys.argv[2] == "late":  # as if another process took the space between the check and the allocation
    stores.shutil = type("S", (), {"disk_usage": staticmethod(lambda path: type("U", (), {"free": 1 << 40})())})
try:
    stores.ArrayStore.create(Path(sys.argv[1]) / "store", 100, (256, 64), "float32", key="k")
except UserError as error:
    print(error)
print("left", list(Path(sys.argv[1]).rglob("*.bin")))
small = stores.ArrayStore.create(Path(sys.argv[1]) / "small", 4, (256, 64), "float32", key="k")
print("small", len(small.missing()))
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_full_disk_on_a_real_file_system(tmp_path, when):
    """A tmpfs of 1 MiB in a mount namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("needs Linux's unshare to mount a small file system")
    inside = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}"'
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, inside], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    command = [*namespace, f'{inside} && exec "$0" -c "$1" "{tmp_path}" {when}', sys.executable, SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "6,553,600 bytes are needed" in done.stdout, done.stderr
    assert "left []" in done.stdout and "small 4" in done.stdout, done.stderr
