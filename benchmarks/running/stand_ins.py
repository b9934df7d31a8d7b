"""Makes a recipe's stand-ins: `python -m benchmarks.running.stand_ins <module>:<function> <folder>`.

A process of its own, because the libraries find their caches by its environment.
"""

import importlib
import json
import shutil
import sys
import time
from pathlib import Path


def make(function: str, folder: Path) -> None:
    """Have `module:function` fill `folder`, and note in its file `complete` what that cost; what was half made goes."""
    shutil.rmtree(folder, ignore_errors=True)
    module, name = function.split(":")
    getattr(importlib.import_module(module), name)(folder)
    (folder / "complete").write_text(json.dumps({"cpu_seconds": time.process_time()}), encoding="utf-8")


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
