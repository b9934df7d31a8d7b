"""Stand-ins for what the paper's configs read: so far the world of shapes, which needs none."""

from pathlib import Path


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`, which become DATA_ROOT, WEIGHTS_ROOT and HF_HOME.

    `common.rehearsal` has data sets in their real formats, and small models under their real hub ids.
    """
    (folder / "data").mkdir(parents=True)
