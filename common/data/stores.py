"""Precomputed arrays on disk: one row per sample, memory-mapped, resumable, a shard per process.

meta.json                    length, shape and dtype of a row, number of shards, key of the producer
names.json                   optional: the sample that each row belongs to
shard-00000-of-00002.bin     rows 0, 2, 4, ... one after another
shard-00000-of-00002.done    a byte for each of them: 1 once it is on the disk
"""

import errno
import json
import math
import operator
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import is_file, readable, reason, write_atomic
from common.errors import UserError
from common.schemas import STRICT, parse

FLUSH_ROWS = 32  # rows that a crash may cost
T = TypeVar("T")


def _number(name: str) -> str:
    try:
        numbers = np.dtype(name).kind in "biuf"
    except TypeError:
        numbers = False
    if not numbers:
        raise ValueError("not a type of numbers")
    return name


@schema(config=STRICT, slots=True)
class Meta:
    """Content of meta.json."""

    length: Annotated[int, Field(ge=0, lt=2**40)]
    shape: list[Annotated[int, Field(ge=1, lt=2**31)]]
    dtype: Annotated[str, AfterValidator(_number)]
    shards: Annotated[int, Field(ge=1, lt=2**16)]
    named: bool
    key: str


META, NAMES = TypeAdapter(Meta), TypeAdapter(list[str])


class ShardWriter:
    """Writes one process's rows of a store: row i belongs to process i mod world_size. Made by `ArrayStore.create`.

    Whatever was finished before is kept: after a crash, `missing()` is what is left to do.
    """

    def __init__(self, folder: Path, length: int, shape: tuple[int, ...], dtype: np.dtype, rank: int, world_size: int):
        self.length, self.shape, self.dtype, self.rank, self.world_size = length, shape, dtype, rank, world_size
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._path = _shard(folder, rank, world_size)
        rows = len(range(rank, length, world_size))
        fresh = _allocate(self._path, rows * self._row_bytes)
        marks = self._path.with_suffix(".done")
        done = np.fromfile(marks, np.uint8) if marks.exists() else np.empty(0, np.uint8)
        if fresh or not marks.exists() or len(done) != rows:
            done = np.zeros(rows, np.uint8)
            write_atomic(marks, done.tobytes())
        self._done, self._written = done, set[int]()
        self._data = self._path.open("r+b", buffering=0)
        self._marks = marks.open("r+b", buffering=0)

    def missing(self) -> np.ndarray:
        """Indices of this process's rows that are not finished, int64, ascending."""
        return np.flatnonzero(self._done == 0) * self.world_size + self.rank

    def write(self, index: int, array: np.ndarray) -> None:
        """Write row `index`, converted to the store's dtype; a row that is finished already is left as it is.

        Raises:
            UserError: the disk is full, or the values do not fit the dtype.
        """
        row, rank = divmod(operator.index(index), self.world_size)
        if rank != self.rank or not 0 <= index < self.length:
            raise ValueError(
                f"row {index} is not one of process {self.rank} of {self.world_size}, {self.length} rows in all"
            )
        if array.shape != self.shape:
            raise ValueError(f"row {index} is {array.shape}, the store holds {self.shape}")
        if self._done[row]:
            return
        with np.errstate(over="ignore"):  # said below, with the row
            values = np.ascontiguousarray(array, self.dtype)
        if self.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(
                f"row {index} has values that are not finite as {self.dtype}: check their source, or store float32"
            )
        with _full_disk(self._path, self._row_bytes):
            _write_at(self._data.fileno(), values.tobytes(), row * self._row_bytes)
        self._written.add(row)
        if len(self._written) >= FLUSH_ROWS or len(self._written) == np.count_nonzero(self._done == 0):
            self.flush()

    def flush(self) -> None:
        """Bring rows to the disk, then mark them as finished. Happens by itself every 32 rows and after the last."""
        if not self._written:
            return
        with _full_disk(self._path, len(self._written) * self._row_bytes):
            os.fsync(self._data.fileno())
            self._done[list(self._written)] = 1
            _write_at(self._marks.fileno(), self._done.tobytes(), 0)
            os.fsync(self._marks.fileno())
        self._written.clear()


class ArrayStore:
    """Rows of a finished store, [N, ...]: `store[i]` reads row i and nothing else. May be sent to other processes.

    Example:
        writer = ArrayStore.create(folder, len(images), (256, 64, 64), "float16", key="sam_vit_h")
        for index in writer.missing():
            writer.write(index, embed(images[index]))
        store = ArrayStore.open(folder)
    """

    def __init__(self, folder: Path, meta: Meta):
        self.folder, self.meta = folder, meta
        self.shape, self.dtype = tuple(meta.shape), np.dtype(meta.dtype)
        self._maps: dict[int, np.ndarray] = {}

    @staticmethod
    def create(
        folder: str | Path,
        length: int,
        shape: Sequence[int],
        dtype: str | np.dtype,
        rank: int = 0,
        world_size: int = 1,
        *,
        key: str,
        names: Sequence[str] | None = None,
    ) -> ShardWriter:
        """Begin a store, or go on with one that was interrupted. Every process calls it, with its rank.

        Args:
            folder: of this store alone.
            length: rows N over all processes.
            shape: of one row.
            dtype: of the stored values.
            key: what produced the rows (weights, configuration); a store is continued only under the same key.
            names: the sample of each row, length N, to be checked by readers.

        Raises:
            UserError: the folder holds another store, or the disk is too small (all space is taken now).
        """
        folder = Path(folder)
        meta = Meta(length, list(shape), np.dtype(dtype).str, world_size, names is not None, key)
        if names is not None and len(names) != length:
            raise ValueError(f"{len(names)} names for {length} rows")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {folder} ({reason(error)}): choose another") from error
        if is_file(folder / "meta.json"):
            found, now = asdict(_read_json(folder / "meta.json", META)), asdict(meta)
            if changed := [name for name in now if found[name] != now[name]]:
                listed = ", ".join(f"{name} {found[name]!r}, now {now[name]!r}" for name in changed)
                raise UserError(
                    f"{folder} was begun differently ({listed}): run as before, or delete the folder to start anew"
                )
            _check_names(folder, meta, names)
        else:
            if names is not None:
                write_atomic(folder / "names.json", json.dumps(list(names)).encode())
            write_atomic(folder / "meta.json", json.dumps(asdict(meta), indent=1).encode())
        return ShardWriter(folder, length, tuple(shape), np.dtype(dtype), rank, world_size)

    @classmethod
    def open(cls, folder: str | Path, key: str | None = None, names: Sequence[str] | None = None) -> "ArrayStore":
        """Open a finished store for reading.

        Args:
            key: what must have produced it; None accepts any.
            names: the samples that the rows must belong to, where the store has names; None skips the check.

        Raises:
            UserError: not a store, unfinished, truncated, of another key or of other samples.
        """
        folder = Path(folder)
        if not is_file(folder / "meta.json"):
            raise UserError(f"no stored arrays at {folder} (no meta.json): run the stage that writes them first")
        meta = _read_json(folder / "meta.json", META)
        if key is not None and meta.key != key:
            raise UserError(
                f"{folder} was produced by {meta.key!r}, not by {key!r}: delete it and run the stage that writes it"
            )
        missing = sum(_unfinished(folder, meta, rank) for rank in range(meta.shards))
        if missing:
            raise UserError(
                f"{missing} of {meta.length} rows are missing in {folder}: run the stage that writes them again "
                "(python -m <stage> predict --config ..., or the same make reproduce); it computes only these"
            )
        if names is not None:
            _check_names(folder, meta, names)
        return cls(folder, meta)

    @property
    def names(self) -> list[str] | None:
        """The sample of each row, where the store has names."""
        return _read_json(self.folder / "names.json", NAMES) if self.meta.named else None

    def __len__(self) -> int:
        return self.meta.length

    def __getitem__(self, index: int) -> np.ndarray:
        """Row `index`, a read-only view of the file."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, shard = divmod(operator.index(index), self.meta.shards)
        if shard not in self._maps:
            path = _shard(self.folder, shard, self.meta.shards)
            rows = len(range(shard, len(self), self.meta.shards))
            try:
                self._maps[shard] = np.asarray(np.memmap(path, self.dtype, "r", shape=(rows, *self.shape)))
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read ({error}): run the stage that writes it again") from error
        return self._maps[shard][row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a memory map pickles as a copy of the whole file


def _shard(folder: Path, rank: int, world_size: int) -> Path:
    return folder / f"shard-{rank:05d}-of-{world_size:05d}.bin"


def _read_json(path: Path, kind: TypeAdapter[T]) -> T:
    if not is_file(path):
        raise UserError(f"{path} is missing: delete {path.parent} and run the stage that writes it")
    with readable(path):
        content = path.read_bytes()
    try:
        return parse(kind, content)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete {path.parent} and run the stage that writes it"
        ) from error


def _check_names(folder: Path, meta: Meta, names: Sequence[str] | None) -> None:
    if not meta.named or names is None:
        return
    saved = _read_json(folder / "names.json", NAMES)
    again = "delete the folder and run the stage that writes it"
    if len(saved) != len(names):
        raise UserError(f"{folder} has rows of {len(saved)} samples, here are {len(names)}: {again}")
    for row, (old, new) in enumerate(zip(saved, names, strict=True)):
        if old != new:
            raise UserError(f"row {row} of {folder} belongs to '{old}', sample {row} is '{new}': {again}")


def _unfinished(folder: Path, meta: Meta, rank: int) -> int:
    """Rows of a shard that cannot be read yet."""
    rows = len(range(rank, meta.length, meta.shards))
    path = _shard(folder, rank, meta.shards)
    marks = path.with_suffix(".done")
    if not is_file(path) or not is_file(marks):
        return rows
    row_bytes = math.prod(meta.shape) * np.dtype(meta.dtype).itemsize
    with readable(marks):
        done = np.fromfile(marks, np.uint8)
        whole = path.stat().st_size // row_bytes  # rows behind a truncation do not count
    return rows - int(np.count_nonzero(done[:whole] == 1)) if len(done) == rows else rows


def _allocate(path: Path, size: int) -> bool:
    """Give a shard its size and its blocks, so that a full disk shows now; True when its content cannot be trusted."""
    status = path.stat() if path.exists() else None
    if status is not None and status.st_size == size:
        return False
    path.with_suffix(".done").unlink(missing_ok=True)  # first: marks must never speak for other data
    needed = size - (status.st_blocks * 512 if status else 0)
    if needed > shutil.disk_usage(path.parent).free:
        raise _too_small(path, needed)
    try:
        with path.open("ab") as file, _full_disk(path, needed):
            file.truncate(0)
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
    except UserError:
        path.unlink()  # a part of what was asked for would only keep the disk full
        raise
    return True


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def _full_disk(path: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _too_small(path, needed) from error
        raise


def _too_small(path: Path, needed: int) -> UserError:
    free = shutil.disk_usage(path.parent).free
    return UserError(
        f"the disk is too small for {path}: {needed:,} bytes are needed, {free:,} are free. Free some space or choose "
        "another folder, then run the same command again; finished rows are kept"
    )
