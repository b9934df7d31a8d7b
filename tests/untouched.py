"""What no test may write to: the checkout and the user's home. Their listings, before and after the tests."""

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OWN = ("runs", "reports", "benchmarks/results", "benchmarks/rehearsals")
"""Folders of the checkout in which the user's own files count one by one, in version control or not."""
HOME = (".", ".cache", ".config", ".local/share", ".local/state")
"""Folders of the home whose entries count; what is in those, other programs write at any time."""


def listing(root: Path, home: Path) -> dict[str, object]:
    """What lies there: files under version control and of `OWN` with size and times, of others the names."""
    found: dict[str, object] = {str(file): "" for file in known_to_git(root, "--others", "--exclude-standard")}
    found |= states(known_to_git(root, "--cached"))
    for folder in OWN:
        found |= states((root / folder).rglob("*"))
    for folder in HOME:
        if (home / folder).is_dir():
            found |= {str(entry): "" for entry in (home / folder).iterdir()}
    return found


def known_to_git(root: Path, *which: str) -> list[Path]:
    """Files that `git ls-files` names; none outside version control, and without git."""
    try:
        asked = subprocess.run(["git", "ls-files", "-z", *which], cwd=root, capture_output=True)
    except OSError:
        return []
    return [root / os.fsdecode(name) for name in asked.stdout.split(b"\0") if name]


def states(files: Iterable[Path]) -> dict[str, object]:
    """Size and times of each that is a file.

    The times tell of one that was changed and put back, too, and of one that had been changed before the tests.
    """
    found: dict[str, object] = {}
    for file in files:
        with suppress(OSError):
            if file.is_symlink() or file.is_file():
                at = file.lstat()
                found[str(file)] = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
    return found


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs between two listings, as lines for people."""
    names = sorted({**before, **after})
    kinds = {True: "changed", False: "appeared"}
    return [
        f"{name} {kinds[name in before] if name in after else 'disappeared'}"
        for name in names
        if before.get(name) != after.get(name)
    ]
