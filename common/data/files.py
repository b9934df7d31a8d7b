"""Files: written whole or not at all, found and read with errors that name the file and say what it is instead."""

import fnmatch
import gzip
import os
import re
import secrets
import stat
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.data.pictures import decode_picture
from common.data.scene import UnreadableSample
from common.errors import UserError

ENCODINGS = {  # by the mark at the beginning; UTF-32's little-endian one begins as UTF-16's does
    BOM_UTF8: "utf-8-sig",
    BOM_UTF32_LE: "utf-32",
    BOM_UTF32_BE: "utf-32",
    BOM_UTF16_LE: "utf-16",
    BOM_UTF16_BE: "utf-16",
}
WEB_PAGE = re.compile(rb"\s*(<!--.{0,500}?-->\s*)?<(!doctype|html|head|body|\?xml)\b", re.IGNORECASE | re.DOTALL)
POINTER = b"version https://git-lfs"


def write_atomic(path: Path, content: bytes, durable: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Args:
        durable: so that this holds after a power cut too, which takes some milliseconds.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# finding


def is_file(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        UserError: something else is in its place (a folder, a pipe), or nobody may look (rights, a loop of links).
    """
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise UserError(
            f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}, but a file belongs there"
        )
    return mode is not None


def is_folder(path: Path) -> bool:
    """Whether a folder is there; errors as `is_file`."""
    mode = _mode(path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is no folder, but one belongs there")
    return mode is not None


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise UserError(f"{path} is a link to {os.readlink(path)}, where nothing is") from None
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot look at {path} ({reason(error)})") from error


def matching(path: Path) -> list[Path]:
    """The files that a path with a pattern as its last part stands for, in order; hidden ones are not data."""
    if not path.name or not is_folder(path.parent):
        return []
    with readable(path.parent):
        names = [name for name in os.listdir(path.parent) if not name.startswith(".")]
    found = sorted(path.parent / name for name in fnmatch.filter(names, path.name))
    return [file for file in found if is_file(file)]


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder under a folder, itself first, with the names in it that are no folders, both in order.

    Links to folders are followed, but no folder is entered twice: a link may lead back.
    """
    seen = set()
    with readable(folder):
        for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
            folders.sort()
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            yield Path(parent), sorted(names)


def files_under(folder: Path) -> set[str]:
    """Names of the files under a folder at any depth, relative to it."""
    return {(parent / name).relative_to(folder).as_posix() for parent, names in walk(folder) for name in names}


def place(name: str, there: set[str]) -> str | None:
    """The file that a name in an annotation means, None where it is not there.

    It may hold folders of the machine that it was written on: `/data/mine/val2017/a.jpg` is `val2017/a.jpg` or `a.jpg`.

    Args:
        there: what `files_under` has found.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return next((path for k in range(len(parts)) if (path := "/".join(parts[k:])) in there), None)


def _raise(error: OSError) -> None:
    raise error


def reason(error: Exception) -> str:
    """Why something failed, in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or shown(str(error), 200) or type(error).__name__


def shown(value: Any, length: int = 80) -> str:
    """A value for a message: what is odd may be megabytes long."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: length + 1])
    return text if len(text) <= length else f"{text[:length]}..."


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What the operating system or a decompressor says of a file, as an error that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        damaged = isinstance(error, EOFError | zlib.error | gzip.BadGzipFile)
        advice = "is damaged or was cut off: download it again" if damaged else "cannot be read"
        raise UserError(f"{path} {advice} ({reason(error)})") from error


# reading


def lines_of(file: Path, keep_blank: bool = False) -> list[str]:
    """A text file's lines, of any line ending; other characters that Unicode calls line breaks stay in their line.

    UTF-8, or UTF-16 and UTF-32 with a byte-order mark; gunzipped if its name ends in .gz.

    Args:
        keep_blank: keep empty lines at the end, which are dropped else.

    Raises:
        UserError: not readable, damaged, in another encoding (with line and byte), or something else than text.
    """
    with readable(file), _opened(file) as handle:
        content = handle.read()
    text = text_of(content, file).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n")
    while not keep_blank and len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return lines


def text_of(content: bytes, where: object) -> str:
    """Decoded text, without its byte-order mark; errors as `lines_of`."""
    refuse(content, where)
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{where}, line {line}, byte {error.start}: not {encoding.removesuffix('-sig').upper()} "
            f"({content[error.start : error.start + 1].hex()}). If it is in another encoding, convert it: "
            f"iconv -f WINDOWS-1252 -t UTF-8 <file>"
        ) from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise UserError(
            f"{where}, line {line}, holds NUL characters: it is damaged, no text, or UTF-16 without a byte-order mark "
            "(convert it: iconv -f UTF-16LE -t UTF-8 <file>)"
        )
    return text


def as_utf8(content: bytes, where: object) -> bytes:
    """The same text without a byte-order mark, UTF-8 if it had one; errors as `lines_of`."""
    return content if _encoding(content) == "utf-8" else text_of(content, where).encode()


def byte_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, as UTF-8, one after the other; lines of white space are passed over.

    Raises:
        UserError: not readable, damaged, or a web page.
    """
    with readable(file), _opened(file) as handle:
        for number, line in enumerate(handle, start=1):
            if number == 1:
                refuse(line, file)
                if _encoding(line) != "utf-8":
                    rest = as_utf8(line + handle.read(), file).split(b"\n")
                    yield from ((k, one) for k, one in enumerate(rest, 1) if one.strip())
                    return
            if line.strip():
                yield number, line


def _opened(file: Path) -> Any:
    if not is_file(file):  # opening a pipe would wait for ever
        raise UserError(f"{file} is missing")
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _encoding(content: bytes) -> str:
    return next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")


def refuse(content: bytes, where: object) -> None:
    """UserError for the beginning of what is often saved under a data file's name."""
    if WEB_PAGE.match(content.removeprefix(BOM_UTF8)[:1000]):
        raise UserError(f"{where} is a web page, perhaps an error or a login that was saved instead: download it again")
    if content.startswith(POINTER):
        raise UserError(f"{where} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")


def decode_rgb(content: bytes, path: object, orient: bool = True) -> np.ndarray:
    """An encoded picture as uint8 RGB [H, W, 3]; `path` is what an error names.

    Args:
        orient: turn it as its EXIF orientation says; False where annotations refer to the stored raster.

    Raises:
        UnreadableSample: empty, truncated or damaged, or not a picture.
    """
    try:
        return decode_picture(content, orient=orient)
    except ValueError as error:
        raise UnreadableSample(path, str(error)) from error


def read_file(path: Path) -> bytes:
    """The bytes of one sample's file.

    Raises:
        UnreadableSample: missing, no regular file, or the disk failed.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise UnreadableSample(path, "is no regular file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UnreadableSample(path, reason(error)) from error
