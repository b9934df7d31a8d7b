"""Paths in configs: `$DATA_ROOT` and `$WEIGHTS_ROOT` stand for folders that differ from machine to machine."""

import os
import re
from pathlib import Path

from common.errors import UserError


def expand(path: str | os.PathLike[str], what: str = "this path") -> Path:
    """Replace environment variables and `~`; an unset variable is an error that names it."""
    text = os.path.expanduser(os.path.expandvars(str(path)))
    if unset := re.findall(r"\$\{?(\w+)", text):
        raise UserError(f"{what} is '{path}', but {unset[0]} is not set: pass {unset[0]}=<folder>.")
    return Path(text)


def user_path(path: str | os.PathLike[str]) -> Path:
    """A folder as its user means it: `~` is the home folder, and what is relative counts from the working directory."""
    return Path(os.path.expanduser(path)).absolute()
