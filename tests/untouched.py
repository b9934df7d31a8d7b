"""What no test may write to: the checkout and the user's home. Their listings, before and after the tests."""

import subprocess
from pathlib import Path

IGNORED = ("runs", "reports", "benchmarks/results", "benchmarks/rehearsals")
"""Folders of the checkout whose files count one by one, because version control ignores them or knows them changed."""
HOME = (".", ".cache", ".config", ".local/share", ".local/state")
"""Folders of the home whose entries count; what is in those, other programs write at any time."""


def listing(root: Path, home: Path) -> dict[str, object]:
    """What lies there: `git status`, the files of `IGNORED` with size and time, names in the home."""
    found: dict[str, object] = {}
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=root, capture_output=True, text=True
    )
    for line in status.stdout.splitlines():
        found[f"{root / line[3:]} (git: {line[:2].strip()})"] = line
    for folder in IGNORED:
        for file in (root / folder).rglob("*"):
            if file.is_file():
                at = file.stat()
                found[str(file)] = (at.st_size, at.st_mtime_ns)
    for folder in HOME:
        if (home / folder).is_dir():
            found |= {str(entry): "" for entry in (home / folder).iterdir()}
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
