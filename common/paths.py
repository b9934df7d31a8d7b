"""Paths in configs: `$DATA_ROOT` and `$WEIGHTS_ROOT` stand for folders that differ from machine to machine."""

import os
import re
from pathlib import Path

from common.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]


def expand(path: str | os.PathLike[str], what: str = "this path") -> Path:
    """Replace environment variables and `~`; an unset variable is an error that names it."""
    named = re.findall(r"\$\{?(\w+)", str(path))  # in the path itself: a folder's own name may have a $ in it
    if unset := [name for name in named if not os.environ.get(name)]:
        raise UserError(f"{what} is '{path}', but {unset[0]} is not set: pass {unset[0]}=<folder>.")
    return Path(os.path.expanduser(os.path.expandvars(str(path))))


def given_path(path: str | os.PathLike[str]) -> Path:
    """A path of a command line: `~` is the home folder. Shells leave it where it stands in a word (`--out=~/x`)."""
    expanded = os.path.expanduser(path)
    if str(expanded).startswith("~"):
        raise UserError(f"{path}: there is no user of that name here. A folder that begins so is ./{path}")
    return Path(expanded)


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as its user means it: as `given_path`, and what is relative counts from the working directory."""
    return given_path(path).absolute()


def runs_folder() -> Path:
    """The folder of the run folders: `$RUNS`, or the project's `runs`, whatever the working directory is."""
    return user_path(os.environ["RUNS"]) if os.environ.get("RUNS") else PROJECT / "runs"
