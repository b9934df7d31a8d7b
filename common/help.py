"""A stage's `--help`, remembered: its options are those of classes whose imports alone take seconds.

    python -m projects.mobilesam.distill fit --help          6 s the first time, a tenth of a second from then on

What is printed follows from the command line, the width of the terminal, the project's own files and the installed
packages. The text is kept in the runs folder under a digest of all of these; another file, package or width, another
text. This module is imported before anything else is, so it needs nothing that takes time.
"""

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from common.errors import UserError
from common.paths import PROJECT, runs_folder

HELP = {"-h", "--help"}


def asked(command: list[str]) -> tuple[str, list[str]] | None:
    """The module and the words of `python -m <module> <words> --help`; None for any other command.

    Args:
        command: as `sys.orig_argv` has it.
    """
    if command.count("-m") != 1 or command[-1] not in HELP:
        return None
    module, *words = command[command.index("-m") + 1 :]
    return (module, words) if module.split(".")[0] in ("projects", "common") and words else None


def place(module: str, words: list[str]) -> Path:
    """The file of a text."""
    folders = {PROJECT / "common", PROJECT.joinpath(*module.split(".")[:2])}
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    stamps = [(str(path), path.stat().st_mtime_ns) for path in files]
    packages = os.stat(sysconfig.get_path("purelib")).st_mtime_ns
    known = [module, words, shutil.get_terminal_size(), sys.version, sys.stdout.isatty(), packages, stamps]
    return runs_folder() / "help" / (hashlib.sha256(repr(known).encode()).hexdigest()[:20] + ".txt")


def answer(command: list[str]) -> None:
    """Print what is remembered for this command and end; do nothing for a command that asks for no help, or anew."""
    if found := asked(command):
        with suppress(OSError, ValueError, UserError):
            print(place(*found).read_text(encoding="utf-8"), end="", flush=True)
            raise SystemExit(0)


@contextmanager
def remember(command: list[str]) -> Iterator[None]:
    """Keep what the command prints, if it asks for help and ends well."""
    if (found := asked(command)) is None:
        yield
        return
    text = StringIO()
    try:
        with redirect_stdout(text):
            yield
    except SystemExit as end:
        if not end.code:
            with suppress(OSError, UserError):
                file = place(*found)
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(f".{os.getpid()}")
                temporary.write_text(text.getvalue(), encoding="utf-8")
                os.replace(temporary, file)
        raise
    finally:
        print(text.getvalue(), end="", flush=True)
