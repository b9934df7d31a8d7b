"""What commands print: on consoles of any encoding, with file names of any bytes."""

import os
import sys
from pathlib import Path


def tolerant_console() -> None:
    r"""From here on, a character that the console cannot show is printed as its escape (`\u2192`), never an error.

    Consoles have other encodings than UTF-8 (`LC_ALL=de_DE`), and names of files may be no text in any encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # None: no stream at all, or one that a test has put there
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name on one line of valid UTF-8: what is no text, or moves the cursor, is its escape (`\xe9`, `\n`)."""
    text = os.fsencode(Path(name)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
