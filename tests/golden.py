"""Where the golden vectors lie: in `GOLDEN_ROOT`, by default beside the project, whatever the working directory."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def golden_file(paper: str) -> Path:
    """The golden vectors of a paper; the file may not be there. A relative GOLDEN_ROOT counts from the project."""
    return ROOT / os.environ.get("GOLDEN_ROOT", "../shared/golden") / f"{paper}.safetensors"
