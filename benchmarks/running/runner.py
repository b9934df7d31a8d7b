"""Runs jobs side by side, each in a process of its own, and shows where they stand."""

import errno
import multiprocessing as mp
import multiprocessing.forkserver as forkserver
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.running.recipes import Job
from common.errors import UserError
from common.training.runs import disk_error, read_json

PRELOAD = ["common.cli", "torchmetrics", "wandb"]
FULL = 2**20  # bytes that are left of a disk on which nothing can run


@dataclass
class Outcome:
    """How a batch of jobs ended: what failed (with its exit code), and what was not started because of that."""

    failed: dict[Job, int] = field(default_factory=dict)
    skipped: list[Job] = field(default_factory=list)
    ran: list[Job] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Put another batch's end to this one's."""
        self.failed |= other.failed
        self.skipped += other.skipped
        self.ran += other.ran


def execute(argv: list[str], environment: dict[str, str], log: Path, warm: bool) -> None:
    """Body of a worker: `python -m <argv>`, with its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = open(log, "a", buffering=1)  # noqa: SIM115 - stays open for the life of the process
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides on Ctrl-C
    if not warm:
        os.execv(sys.executable, [sys.executable, "-m", *argv])
    parent = mp.parent_process()
    assert parent is not None
    mp.set_start_method(None, force=True)  # the stage's own processes start as they would without the server
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    sys.argv = list(argv)
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


_served: dict[str, str] | None = None
"""The environment that the server of warm workers was started with."""


def _start_server(environment: dict[str, str], modules: list[str]) -> None:
    """Have warm workers come from a server with this environment: libraries read HF_HOME while they are imported."""
    global _served
    if environment == _served:
        return
    server: Any = forkserver._forkserver
    server._stop()
    before = dict(os.environ)
    try:
        os.environ.update(environment, WARM_MODULES=" ".join(modules))
        server.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    _served = environment


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


class Pool:
    """Starts a process per job.

    Warm workers are forks of a server that has the heavy imports behind it, so that a small stage starts at once; they
    end when the harness ends, however it ends. Paper-scale stages start as plain commands, which may start processes of
    their own.
    """

    def __init__(self, modules: list[str], warm: bool, environment: dict[str, str]):
        self.warm = warm
        self.context: Any = mp.get_context("forkserver" if warm else "spawn")
        if warm:
            self.context.set_forkserver_preload(["benchmarks.running.warm"])
            _start_server(environment, [*PRELOAD, *modules])

    def start(self, job: Job, labels: str) -> Any:
        environment = {**job.environment, "RUN_LABELS": labels}
        if self.warm:
            environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        process = self.context.Process(target=execute, args=(job.argv, environment, job.run_dir / "log.txt", self.warm))
        process.start()
        return process


def run(jobs: list[Job], paper: str, label: str, slots: int, console: Console, warm: bool = True) -> Outcome:
    """Run all jobs that are not done, upstream first, `slots` at a time.

    A failure stops what depends on it and nothing else. Ctrl-C stops all; everything stays resumable.
    """
    waiting = [job for job in jobs if job.done is None]
    outcome = Outcome()
    if not waiting:
        return outcome
    pool = Pool(sorted({job.stage.module for job in waiting}), warm, waiting[0].environment)
    running: dict[Job, tuple[Any, float]] = {}
    finished = len(jobs) - len(waiting)
    try:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while waiting or running:
                for job in list(waiting):
                    if any(before in outcome.failed or before in outcome.skipped for before in job.upstream):
                        waiting.remove(job)
                        outcome.skipped.append(job)
                    elif len(running) < slots and all(before.done is not None for before in job.upstream):
                        waiting.remove(job)
                        running[job] = (_start(pool, job, f"{paper}/{label}"), time.monotonic())
                        if not console.is_terminal:
                            console.print(f"start  {describe(job)}")
                wait([process.sentinel for process, _ in running.values()], timeout=0.25)
                for job, (process, started) in list(running.items()):
                    if process.is_alive():
                        continue
                    process.join()
                    del running[job]
                    if process.exitcode == 0 and job.done is not None:
                        finished += 1
                        outcome.ran.append(job)
                        took = f"{time.monotonic() - started:.0f} s   [dim]({finished} of {len(jobs)})[/]"
                        console.print(f"[green]done[/]   {describe(job)}  {took}")
                    else:
                        outcome.failed[job] = process.exitcode
                        said = f" {describe(job)}: {failure(job, process.exitcode)}"
                        console.print(Text.assemble(("failed", "red"), said), soft_wrap=True)
                live.update(bars(running, finished, len(jobs), len(outcome.failed)))
    except BaseException:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join(5)
        raise
    return outcome


def _start(pool: Pool, job: Job, scale: str) -> Any:
    """Start a job in its run folder; UserError where there can be none."""
    try:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        (job.run_dir / "progress.json").unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, job.run_dir) or error from error
    return pool.start(job, f"{scale}/{job.arms[0]}/{job.stage.name}/seed{job.seed}")


def describe(job: Job) -> str:
    """`decoupled, seed 1: distill`; a job that several arms share says so."""
    arms = job.arms[0] if len(job.arms) == 1 else f"{len(job.arms)} arms"
    return f"{arms}, {'all seeds' if job.stage.shared else f'seed {job.seed}'}: {job.stage.name}"


def failure(job: Job, code: int) -> str:
    """The error a failed stage printed, or what its exit code says, and where its log is."""
    log = job.run_dir / "log.txt"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if code == 2 and errors:
        return "\n".join(lines[errors[-1] :]).removeprefix("error: ")
    if shutil.disk_usage(job.run_dir).free < FULL:  # then the log may not say so
        return str(disk_error(OSError(errno.ENOSPC, "full"), job.run_dir))
    if code < 0:
        return f"killed by signal {-code}; the same command continues from its last checkpoint (log: {log})"
    tail = "\n  ".join(lines[-12:])
    return f"exit {code}, log {log}:\n  {tail}"


def bars(running: dict[Job, tuple[Any, float]], finished: int, total: int, failed: int) -> Table:
    """A line per running stage: arm, seed, stage, bar, loss, time left."""
    table = Table.grid(padding=(0, 2))
    for job, (_, started) in running.items():
        progress = read_progress(job.run_dir)
        share = progress["step"] / progress["total"] if progress and progress["total"] else 0.0
        filled = int(24 * share)
        loss = f"loss {progress['loss']:.4f}" if progress and progress["loss"] is not None else ""
        left = (
            f"{progress['seconds_left']:.0f} s left"
            if progress and progress["seconds_left"] is not None
            else f"{time.monotonic() - started:.0f} s"
        )
        table.add_row(
            describe(job), f"[cyan]{'━' * filled}[/][dim]{'━' * (24 - filled)}[/]", f"{share:4.0%}", loss, left
        )
    table.add_row(f"[bold]stage {finished + len(running)} of {total}[/]{f', {failed} failed' if failed else ''}")
    return table


def read_progress(run_dir: Path) -> dict[str, Any] | None:
    """A running stage's `progress.json`; None before it has written one, and where it is damaged."""
    progress = read_json(run_dir / "progress.json", dict)
    names = ("step", "total", "loss", "seconds_left")
    if progress is None or not all(isinstance(progress.get(name), int | float | None) for name in names):
        return None
    return progress if isinstance(progress.get("step"), int) and {*names} <= progress.keys() else None


def stand_ins(function: str, folder: Path) -> None:
    """Have `module:function` write the rehearsal's stand-ins into `folder`, once; a half-written one is made anew."""
    if (folder / "complete").exists():
        return
    module, name = function.split(":")
    code = f"import sys, pathlib; from {module} import {name}; {name}(pathlib.Path(sys.argv[1]))"
    made = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    if made.returncode:
        raise UserError(f"the rehearsal's stand-ins could not be made in {folder}:\n{made.stderr[-2000:]}")
    (folder / "complete").touch()
