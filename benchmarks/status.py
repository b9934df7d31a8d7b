"""Where the stages stand that LAUNCH=slurm submitted: `make status PAPER=x`, as often as one likes.

A stage that has finished says so itself; of the others SLURM's queue knows the state, its accounting (where a cluster
has one) how they ended, and their logs why.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.running import launch, recipes
from benchmarks.running.launch import Queue
from benchmarks.running.runner import log_lines, read_progress
from common.console import table_console
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import runs_folder, user_path
from common.training.runs import read_done

COLOURS = {"done": "green", "running": "cyan", "waiting": "default", "requeued": "cyan", "completing": "cyan"}


def state(entry: dict[str, Any], seed: str, queue: Queue, ended: dict[str, str]) -> tuple[str, str]:
    """A word for where a seed of a submitted job stands, and what else there is to say."""
    run_dir = Path(entry["tasks"][seed]) if seed else None
    if run_dir and (done := read_done(run_dir)):
        return "done", f"{duration(done['wall_seconds'])}, {done['finished']}"
    found = launch.find(entry, seed, queue)
    if found is not None and found.live:
        if found.state == "PENDING":
            again = run_dir is not None and (run_dir / "config.yaml").exists()
            return "requeued" if again else "waiting", found.reason
        return found.state.lower(), " ".join(filter(None, (progress(run_dir), f"on {found.nodes}, {found.elapsed}")))
    job = f"{entry['job']}_{seed}" if entry["array"] else entry["job"]
    how = found.state if found is not None else ended.get(job, "gone")
    if found is not None and found.reason == "DependencyNeverSatisfied":
        return "cancelled", "a stage it reads from has failed"
    if not seed and how == "COMPLETED":
        return "done", str(Path(entry["script"]).parent / "table.txt")
    return how.lower().split()[0], last_error(run_dir or Path(entry["script"]).parent)


def progress(run_dir: Path | None) -> str:
    """`step 300 of 1000, 5 min left,` of a running stage."""
    now = read_progress(run_dir) if run_dir else None
    if now is None:
        return ""
    total = f" of {now['total']}" if now["total"] else ""
    left = f"{duration(now['seconds_left'])} left, " if now["seconds_left"] is not None else ""
    return f"step {now['step']}{total}, {left}"


def last_error(folder: Path) -> str:
    """What a log says last of an error, or last of all, and where the log is."""
    logs = {file: found for name in ("log.txt", "table.txt") if (found := log_lines(file := folder / name))}
    if not logs:
        return "it left no log"
    log = next(iter(logs))
    lines = [line.strip() for line in logs[log]]
    lines = [line for line in lines if line and not line.startswith(("srun:", "slurmstepd"))]
    errors = [number for number, line in enumerate(lines) if "error" in line.lower()]
    said = " ".join(lines[errors[-1] if errors else -1 :])
    return f"{said[:200] or 'it said nothing'} (log: {log})"


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def accounting(jobs: list[str]) -> dict[str, str]:
    """How jobs ended, by id, as far as the cluster keeps such a record."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    command = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,State",
        f"--jobs={','.join(jobs)}",
    ]
    listed = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    return dict(line.split("|", 1) for line in listed.stdout.splitlines() if "|" in line)


def show(paper: str, runs: Path, console: Console) -> None:
    """Print a table for every scale at which something was submitted; UserError where nothing was."""
    records = sorted((runs / paper).glob("*/slurm/jobs.json"))
    if not records:
        command = f"make reproduce PAPER={paper} LAUNCH=slurm"
        raise UserError(f"nothing of {paper} was submitted from {(runs / paper).absolute()}: {command}")
    queue = launch.squeue()
    for path in records:
        record = launch.read_record(path.parent)
        ended = accounting([entry["job"] for entry in record])
        table = Table("job", "stage", "seed", "state", "", box=None, pad_edge=False, header_style="dim")
        for entry in record:
            for seed in entry["tasks"] or [""]:
                word, more = state(entry, seed, queue, ended)
                job = f"{entry['job']}_{seed}" if entry["array"] else entry["job"]
                shown = Text(word, COLOURS.get(word, "red"))
                table.add_row(job, entry["stage"], seed if entry["array"] else "", shown, Text(more))
        console.print(Text.assemble((paper, "bold"), f" at {path.parent.parent.name} scale"))
        console.print(table, soft_wrap=True)


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.status", description=__doc__)
    parser.add_argument("paper", help="a recipe's name")
    parser.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or runs)")
    options = parser.parse_args(arguments)
    refuse_control_in(options)
    console = table_console(160)
    recipes.load(options.paper)
    show(options.paper, user_path(options.runs) if options.runs else runs_folder(), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
