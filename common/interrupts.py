"""Ctrl-C while a command's imports run, which take seconds: one word and the end, as it is later on.

An exception would not do: libraries catch what is raised while they are imported, and go on or fall over it.
"""

import os
import signal
import sys
from types import FrameType

OURS = ("benchmarks", "common", "projects", "scripts")


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + number)  # nothing has begun, so nothing is to be put away


def end_at_once() -> None:
    """Until `as_usual`, Ctrl-C ends this process at once, if it is a command of ours and does not ignore Ctrl-C."""
    command = sys.orig_argv
    module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
    if module.split(".")[0] in OURS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def as_usual() -> None:
    """From here on Ctrl-C is an exception, which lets a command put away what it has begun."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
