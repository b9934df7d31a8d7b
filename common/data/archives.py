"""Tar files as random-access collections, read in place: nothing is unpacked, so nothing can leave its folder."""

import bisect
import logging
import os
import secrets
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.data.files import is_file, matching, readable, reason, shown, write_atomic
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)
BLOCK = tarfile.BLOCKSIZE
INDEX_VERSION = 2  # an index that was made otherwise is made anew


@dataclass(frozen=True)
class TarIndex:
    """Where the regular files of a tar lie.

    Attributes:
        names: member names as stored, M of them.
        offsets: position of each member's first byte in the tar, int64 [M].
        sizes: bytes of each member, int64 [M].
    """

    names: list[str]
    offsets: np.ndarray
    sizes: np.ndarray


def index_tar(path: Path) -> TarIndex:
    """Index a tar once; later calls read the index from `<path>.index.npz`, where that could be written.

    The cached index is ignored when the tar's size or time of change differs from when it was made.

    Raises:
        UserError: cut off, damaged anywhere between its first header and its end, compressed, or not a tar.
    """
    if not is_file(path):
        raise UserError(f"{path} is missing")
    with readable(path):
        status = path.stat()
    stamp = np.array([INDEX_VERSION, status.st_size, status.st_mtime_ns])
    cache = path.with_name(path.name + ".index.npz")
    if (cached := _read_index(cache, stamp)) is not None:
        return cached
    log.info("indexing %s (once)", path)
    index = _scan(path)
    content = BytesIO()
    np.savez(
        content,
        stamp=stamp,
        names=np.array([name.encode("utf-8", "surrogateescape") for name in index.names], dtype="S"),
        offsets=index.offsets,
        sizes=index.sizes,
    )
    try:
        write_atomic(cache, content.getvalue())
    except OSError as error:  # a read-only data folder is usual; every process then indexes for itself
        log.info("the index of %s is kept in memory only: %s", path, error.strerror)
    return index


def read_member(path: Path, offset: int, size: int, name: str) -> bytes:
    """The bytes of one member.

    The tar is opened anew each time: next to decoding an image that costs nothing, and no handle has to survive a fork
    or a pickle, nor do a thousand tars meet the limit on open files.

    Raises:
        UnreadableSample: the tar ends before the member does, or the disk failed.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
            while len(content) < size and (more := file.read(size - len(content))):
                content += more
    except OSError as error:
        raise UnreadableSample(f"{path}:{name}", reason(error)) from error
    if len(content) < size:
        raise UnreadableSample(f"{path}:{name}", f"the tar ends after {len(content)} of {size} bytes")
    return content


class PairedTars:
    """Samples of two files, `<key>.<medium>` and `<key>.<caption>`, in a range of tars that are read where they lie.

    Samples that lack one of the two are left out with a warning.

    Args:
        root: folder of the tars; `$DATA_ROOT` is replaced.
        first: position of the first tar in alphabetical order.
        last: position behind the last one; None for all that follow.
        media: endings of the medium, in lower case; the first one names them in messages.
        captions: endings of the caption; where a sample has several, the first of them that it has is taken.

    Raises:
        UserError: no such tars, a damaged one, or no pairs in them.
    """

    def __init__(self, root: str, first: int, last: int | None, media: tuple[str, ...], captions: tuple[str, ...]):
        self.captions = captions
        self.tars = tars = tars_in(root, first, last)
        self.spans = [_pairs(tar, index_tar(tar), media, captions) for tar in tars]
        self.ends = list(accumulate(len(spans) for spans in self.spans))
        if not self.ends[-1]:
            pair = f"<key>.{media[0]} with a <key>.{' or .'.join(captions)}"
            raise UserError(f"{tars[0]} and {len(tars) - 1} more tars hold no {pair}")

    def __len__(self) -> int:
        return self.ends[-1]

    def read(self, index: int, kind: str) -> tuple[bytes, bytes, str]:
        """The medium, its caption, and a name for messages: `<tar>:<kind> <position>`."""
        number, within = self._place(index)
        tar, (medium, medium_size, caption, caption_size, _) = self.tars[number], self.spans[number][within].tolist()
        name = f"{tar}:{kind} {within}"
        return read_member(tar, medium, medium_size, name), read_member(tar, caption, caption_size, name), name

    def ending(self, index: int) -> str:
        """That of a sample's caption."""
        number, within = self._place(index)
        return self.captions[int(self.spans[number][within, -1])]

    def _place(self, index: int) -> tuple[int, int]:
        """The number of a sample's tar, and its own number in there."""
        number = bisect.bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)


def tars_in(root: str, first: int = 0, last: int | None = None) -> list[Path]:
    """The tars `first` to `last` (exclusive) of a folder in alphabetical order; UserError where there are none."""
    folder = expand(root, "root of the tars")
    if first < 0 or (last is not None and last <= first):
        raise UserError(f"tars number {first} to {last} are none: first must be 0 or more, last greater than first")
    if not (tars := matching(folder / "*.tar")[first:last]):
        raise UserError(f"no tars number {first} to {'the end' if last is None else last - 1} in {folder}")
    return tars


def _pairs(tar: Path, index: TarIndex, media: tuple[str, ...], captions: tuple[str, ...]) -> np.ndarray:
    """Offset and size of the medium, then of the caption, and the number of its ending, of every sample in the order of
    the media: int64 [P, 5].

    Numbers alone are kept: the names of millions of samples would fill the memory.
    """
    # of members with the same name the last one counts, as where a tar is unpacked
    parts = [(k, *name.rpartition(".")[::2]) for k, name in enumerate(index.names)]
    ranks = {ending: rank for rank, ending in enumerate(captions)}
    texts: dict[str, tuple[int, int]] = {}
    for k, key, suffix in parts:
        if suffix in ranks and (key not in texts or ranks[suffix] <= texts[key][1]):
            texts[key] = k, ranks[suffix]
    media_of = {key: k for k, key, suffix in parts if suffix.lower() in media}
    pairs = [(k, *texts[key]) for key, k in media_of.items() if key in texts]
    if alone := [key for key in {**media_of, **texts} if key not in texts or key not in media_of]:
        pair = f".{media[0]} or .{captions[0]}"
        log.warning("%s: %d samples lack their %s and are left out, %s first", tar, len(alone), pair, alone[0])
    first, second, rank = np.array(pairs, np.int64).reshape(-1, 3).T
    return np.stack([index.offsets[first], index.sizes[first], index.offsets[second], index.sizes[second], rank], 1)


def pack_tar(path: Path, files: Iterable[Path]) -> None:
    """Write a tar of `files`, each as `./<name>`, that depends on names and contents alone; whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for file in files:
                content = file.read_bytes()
                member = tarfile.TarInfo(f"./{file.name}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_index(cache: Path, stamp: np.ndarray) -> TarIndex | None:
    """A cached index, None where it is missing, damaged or another tar's."""
    try:
        if not cache.is_file():
            return None
        with np.load(cache, allow_pickle=False) as saved:
            if not np.array_equal(saved["stamp"], stamp):
                return None
            names = [name.decode("utf-8", "surrogateescape") for name in saved["names"].tolist()]
            offsets, sizes = saved["offsets"], saved["sizes"]
    except Exception:  # zipfile and numpy raise many kinds of errors; the index is made anew then
        return None
    whole = offsets.dtype == sizes.dtype == np.int64 and offsets.shape == sizes.shape == (len(names),)
    return TarIndex(names, offsets, sizes) if whole and (offsets >= 0).all() and (sizes >= 0).all() else None


def _scan(path: Path) -> TarIndex:
    """Read all headers. Python's tarfile takes a broken one for the end: so the end must be what follows the last."""
    names, spans, odd = [], [], []
    advice = "download it again, or remove it to go on without it"
    with readable(path), path.open("rb") as file:
        try:
            end = 0
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.size < 0 or tar.offset <= end:
                        raise tarfile.ReadError(f"member {shown(member.name)} has a size of {member.size}")
                    end = tar.offset
                    if member.isreg() and not member.issparse():
                        names.append(member.name)
                        spans.append((member.offset_data, member.size))
                    elif not member.isdir():
                        odd.append(member.name)
        except OSError:
            raise
        except Exception as error:  # crafted headers raise ValueError, OverflowError, RecursionError, MemoryError, ...
            raise UserError(f"{path} is not a whole, uncompressed tar ({reason(error)}): {advice}.") from error
        if problem := _after_the_last(file, end):
            raise UserError(f"{path} is damaged: behind its {len(names)} files {problem}. Please {advice}.")
    if odd:
        log.warning("%s: %d members are no regular files and left out, %s first", path, len(odd), odd[0])
    if strange := [
        name for name in names if not (name and name.isprintable())
    ]:  # perhaps content that a header calls a name
        log.warning("%s: %d files have names of odd characters, %s first", path, len(strange), shown(strange[0]))
    offsets, sizes = np.array(spans, np.int64).reshape(-1, 2).T
    return TarIndex(names, offsets, sizes)


def _after_the_last(file: BinaryIO, end: int) -> str | None:
    """What is wrong behind the last member, where a tar has blocks of zeros and nothing else."""
    size = file.seek(0, os.SEEK_END)
    if end > size:
        return f"{end - size} bytes are missing"
    if size - end < BLOCK:
        return "the mark of the end is missing: it was cut off"
    file.seek(end)
    while content := file.read(1 << 20):
        if content.count(0) != len(content):
            return "something follows that is no file (a broken header, or a second archive)"
    return None
