"""What starting and ending a stage costs in a warm worker, and where the time goes.

    python -m benchmarks.measuring.starting          a table: seconds of the clock and of the processor, by part

The stage trains nothing for two steps, with W&B offline. `make speed PAPER=<any>` has it in its part `start`.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.running import runner
from benchmarks.running.recipes import Job
from common.console import table_console
from common.errors import UserError, user_errors
from common.recipe import Stage

MODULE = "benchmarks.measuring.idle"
LIMIT = 1.0  # seconds
STAGES = 5


def idle_stages(times: int = STAGES) -> dict[str, Any]:
    """Medians over so many stages: of each part, and from a worker's start to its end. The first stage, for which the
    server of warm workers starts, does not count.
    """
    walls: list[float] = []
    found: list[dict[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        pool = runner.Pool([MODULE], warm=True, environment={})
        for turn in range(times + 1):
            folder = Path(scratch, str(turn))
            folder.mkdir()
            argv = [MODULE, "fit", "--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--run_dir", str(folder)]
            job = Job(Stage("idle", MODULE), 0, "", folder, argv, [], {"WANDB_MODE": "offline"}, ["arm"])
            started = time.perf_counter()
            job.environment["IDLE_STARTED"] = str(started)
            worker = pool.start(job, "idle/mini/arm/idle/seed0")
            worker.join()
            walls.append(time.perf_counter() - started)
            if worker.exitcode:
                raise UserError(f"the idle stage failed:\n{(folder / 'log.txt').read_text(encoding='utf-8')[-2000:]}")
            found.append(json.loads((folder / "parts.json").read_text(encoding="utf-8")))
    median = statistics.median
    parts = {name: [round(median(one[name][clock] for one in found[1:]), 3) for clock in (0, 1)] for name in found[0]}
    return {
        "median_s": round(median(walls[1:]), 2),
        "least_s": round(min(walls[1:]), 2),
        "most_s": round(max(walls[1:]), 2),
        "processor_s": round(sum(processor for _, processor in parts.values()), 2),
        "limit_s": LIMIT,
        "server_s": round(walls[0], 2),
        "parts": parts,
    }


def show(found: dict[str, Any], console: Console) -> None:
    for name, (wall, processor) in found["parts"].items():
        console.print(f"{name:24} {wall:7.3f} s   processor {processor:7.3f} s")
    console.print(f"{'from start to end':24} {found['median_s']:7.3f} s   processor {found['processor_s']:7.3f} s")
    console.print(f"{'the first, with imports':24} {found['server_s']:7.3f} s")


@user_errors
def main() -> int:
    show(idle_stages(), table_console(110))
    return 0


if __name__ == "__main__":
    sys.exit(main())
