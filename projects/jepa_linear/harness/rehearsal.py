"""Stand-ins for what the paper's configs read: they read nothing, their data are drawn."""

from pathlib import Path


def make(folder: Path) -> None:
    """Leave an empty folder of data, as the rehearsal wants one."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
