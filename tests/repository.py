"""Folders under version control, for tests of what looks at it."""

import subprocess
from pathlib import Path


def commit_all(root: Path) -> None:
    """Commit everything in a folder that git does not ignore, in a repository of its own: made where there is none."""
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)
