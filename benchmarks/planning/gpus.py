"""The GPUs that `make plan` knows, and their figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import unknown

TABLE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Gpu:
    """A device's figures: memory in GB, bandwidth in GB/s, dense peaks in TFLOP/s."""

    name: str
    memory: float
    bandwidth: float
    bf16: float
    tf32: float
    fp32: float
    source: str


def gpus() -> dict[str, Any]:
    """The figures of every GPU that is known, by name."""
    return {str(key): value for key, value in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items()}


def gpu(name: str) -> Gpu:
    """A GPU's figures; UserError with the nearest names for one that is not in the table."""
    known = gpus()
    if name not in known:
        raise unknown("GPU", name, known)
    return Gpu(name, **known[name])
