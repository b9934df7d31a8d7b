"""Damaged files end in a sentence for the user or in a counted sample: no traceback, no hang, nothing wrong in silence.

`FUZZ=20` tries twenty times as many.
"""

import logging
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import UserError
from tests.fuzz.damage import damage
from tests.fuzz.formats import Format, formats, wrong

INPUTS = 12 * int(os.environ.get("FUZZ", "1"))  # of each format
SECONDS = 20  # for one input, on a busy machine
FORMATS = formats()


class Hang(BaseException):
    pass


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def outcome(form: Format, folder: Path, what: str, warned: list[logging.LogRecord]) -> str:
    """How reading a folder with the damage `what` went: "read", "refused", "tolerated", or what must not be."""
    try:
        with limited(SECONDS):
            found, unreadable = form.read(folder)
    except UserError as error:
        return "refused" if len(str(error)) < 3000 else f"endless message: {error!s:.200}"
    except Hang:
        return "hang"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error!s:.200}"
    if odd := next(filter(None, map(wrong, found)), None):
        return f"wrong: {odd}"
    if unreadable or warned:
        return "tolerated"
    lost = form.sealed and len(found) < form.count and not what.endswith("inside")  # where gzip's own marks are whole
    return f"lost: {len(found)} of {form.count}" if lost else "read"


@pytest.mark.parametrize("name", FORMATS)
def test_valid_files_are_read(name, tmp_path):
    form = FORMATS[name]
    write(form.files, tmp_path)
    found, unreadable = form.read(tmp_path)
    assert (len(found), unreadable) == (form.count, 0) and not any(map(wrong, found))


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_or_counted(name, tmp_path, caplog):
    form, bad = FORMATS[name], []
    for seed in range(INPUTS):
        caplog.clear()
        folder = tmp_path / str(seed)
        write(form.files, folder)
        what = damage(folder, random.Random(f"{name} {seed}"))
        with caplog.at_level(logging.WARNING):
            result = outcome(form, folder, what, caplog.records)
        if result not in ("read", "refused", "tolerated"):
            bad.append(f"{seed}: {what}: {result}")
    assert not bad, f"{len(bad)} of {INPUTS}:\n" + "\n".join(bad)
