"""What commands print: on consoles of any encoding, with file names of any bytes."""

import os
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def tolerant_console() -> None:
    r"""From here on, a character that the console cannot show is printed as its escape (`\u2192`), never an error.

    Consoles have other encodings than UTF-8 (`LC_ALL=de_DE`), and names of files may be no text in any encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # None: no stream at all, or one that a test has put there
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def table_console(width: int, soft_wrap: bool = False) -> "Console":
    """What commands print tables and lines on. Words are shown as they are: `[red]` and `:key:` in a path are no signs.

    Args:
        width: columns, where the output is no terminal.
        soft_wrap: lines are cut nowhere, where the output is no terminal.
    """
    from rich.console import Console  # here, because stages print without it

    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(
        width=None if terminal else width,
        soft_wrap=soft_wrap and not terminal,
        markup=False,
        emoji=False,
        highlight=False,
    )


def has_control(text: str) -> bool:
    """Whether a text holds what begins a new line, moves the cursor or is no character at all (NUL)."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name on one line of valid UTF-8: what is no text, or moves the cursor, is its escape (`\xe9`, `\n`)."""
    text = os.fsencode(Path(name)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
