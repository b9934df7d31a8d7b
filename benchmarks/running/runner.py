"""Runs jobs side by side, each in a process of its own, and shows where they stand."""

import ctypes
import errno
import multiprocessing as mp
import multiprocessing.forkserver as forkserver
import os
import runpy
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.running import schemas
from benchmarks.running.recipes import Job
from common.schemas import checked
from common.training.runs import disk_error

PRELOAD = [
    "common.cli", "torchmetrics", "wandb",
    "wandb.sdk.launch", "wandb.wandb_run",  # what W&B imports when a run starts
    "benchmarks.report", "benchmarks.running.rehearsal", "benchmarks.showing.terminal",  # its main module's
]  # fmt: skip
ALLOCATION = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "JSM_", "LSB_", "TORCHELASTIC_")
RANKS = {
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
}
PR_SET_PDEATHSIG = 1  # of Linux's prctl
PATIENCE = 5.0  # seconds that the other processes of a job have for ending by themselves, once one has failed
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
    die_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = open(log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - stays open for the life of the process
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
    leave_allocation(os.environ)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides on Ctrl-C
    if not warm:
        os.execv(sys.executable, [sys.executable, "-m", *argv])
    parent = mp.parent_process()
    assert parent is not None
    mp.set_start_method(None, force=True)  # the stage's own processes start as they would without the server
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if "RANK" in environment and (known := sys.modules.get("lightning_utilities.core.rank_zero")):
        known.rank_zero_only.rank = int(environment["RANK"])  # Lightning reads it once, as the server imported it
    sys.argv = list(argv)
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however it ends (on Linux).

    It holds across `exec`, where a thread that watches the parent would be gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def leave_allocation(environment: MutableMapping[str, str]) -> None:
    """Take out what a cluster's manager or a launcher of several processes said to the harness.

    A stage that the harness starts on this machine is a run of its own: Lightning would take it for one of the
    allocation's tasks, and wait for the others.
    """
    for name in list(environment):
        if name.startswith(ALLOCATION) or name in RANKS:
            del environment[name]


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
        leave_allocation(os.environ)
        os.environ.update(environment, WARM_MODULES=" ".join(modules))
        server.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    _served = environment


def server_seconds() -> tuple[float, float]:
    """Processor-seconds of the server of warm workers, and of those of its workers that have ended; 0 where unknown."""
    server: Any = forkserver._forkserver
    try:
        fields = Path(f"/proc/{server._forkserver_pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    except OSError:  # there is no server, or no Linux
        return 0.0, 0.0
    own, workers = (sum(map(int, fields[first : first + 2])) / os.sysconf("SC_CLK_TCK") for first in (11, 13))
    return own, workers


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

    def start(self, job: Job, labels: str, processes: int = 1) -> "Worker":
        """Start a job as one process, or as so many ranks of one run on this machine."""
        environment = {**job.environment, "RUN_LABELS": labels}
        if self.warm:
            environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        started = []
        for ranks in rank_variables(processes) if processes > 1 else [{}]:
            arguments = (job.argv, environment | ranks, job.run_dir / "log.txt", self.warm)
            started.append(self.context.Process(target=execute, args=arguments))
            started[-1].start()
        return Worker(started)


def rank_variables(processes: int) -> list[dict[str, str]]:
    """What torchrun would set for each of so many processes of one run on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": f"ranks-{port}"}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


class Worker:
    """The processes of a job. When one of them fails, the others, which would wait for it, are ended."""

    def __init__(self, processes: list[Any]):
        self.processes = processes
        self._failed: tuple[int, float] | None = None  # exit code, that of a user's error first; when it was seen

    @property
    def sentinels(self) -> list[int]:
        return [process.sentinel for process in self.processes if process.is_alive()]

    def is_alive(self) -> bool:
        """Whether any process still runs."""
        bad = [process.exitcode for process in self.processes if process.exitcode]
        if bad and self._failed is None:
            self._failed = 2 if 2 in bad else bad[0], time.monotonic()
        alive = [process for process in self.processes if process.is_alive()]
        if self._failed and time.monotonic() - self._failed[1] > PATIENCE:
            for process in alive:
                process.kill()
        return bool(alive)

    @property
    def exitcode(self) -> int:
        """0, or how the first process to fail has ended."""
        self.is_alive()
        return self._failed[0] if self._failed else 0

    def terminate(self) -> None:
        for process in self.processes:
            process.terminate()

    def join(self, timeout: float | None = None) -> None:
        for process in self.processes:
            process.join(timeout)


def run(
    jobs: list[Job], paper: str, label: str, slots: int, console: Console, warm: bool = True, processes: int = 1
) -> Outcome:
    """Run all jobs that are not done, upstream first, `slots` at a time; each as so many processes of one run.

    Several processes find each other as those of torchrun do, and need `--trainer.devices <processes>`. A failure
    stops what depends on it and nothing else. Ctrl-C stops all; everything stays resumable.
    """
    waiting = [job for job in jobs if job.done is None]
    outcome = Outcome()
    if not waiting:
        return outcome
    pool = Pool(sorted({job.stage.module for job in waiting}), warm, waiting[0].environment)
    running: dict[Job, tuple[Worker, float]] = {}
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
                        running[job] = (_start(pool, job, f"{paper}/{label}", processes), time.monotonic())
                        if not console.is_terminal:
                            console.print(Text(f"start  {describe(job)}"))
                wait([sentinel for worker, _ in running.values() for sentinel in worker.sentinels], timeout=0.25)
                for job, (worker, started) in list(running.items()):
                    if worker.is_alive():
                        continue
                    worker.join()
                    del running[job]
                    if worker.exitcode == 0 and job.done is not None:
                        finished += 1
                        outcome.ran.append(job)
                        took = f"   {describe(job)}  {time.monotonic() - started:.0f} s   "
                        console.print(Text.assemble(("done", "green"), took, (f"({finished} of {len(jobs)})", "dim")))
                    else:
                        outcome.failed[job] = worker.exitcode
                        said = f" {describe(job)}: {failure(job, worker.exitcode)}"
                        console.print(Text.assemble(("failed", "red"), said), soft_wrap=True)
                live.update(bars(running, finished, len(jobs), len(outcome.failed)))
    except BaseException:
        for worker, _ in running.values():
            worker.terminate()
        for worker, _ in running.values():
            worker.join(5)
        raise
    return outcome


def _start(pool: Pool, job: Job, scale: str, processes: int) -> Worker:
    """Start a job in its run folder; UserError where there can be none."""
    try:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        (job.run_dir / "progress.json").unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, job.run_dir) or error from error
    return pool.start(job, f"{scale}/{job.arms[0]}/{job.stage.name}/seed{job.seed}", processes)


def describe(job: Job) -> str:
    """`decoupled, seed 1: distill`; a job that several arms share says so."""
    arms = job.arms[0] if len(job.arms) == 1 else f"{len(job.arms)} arms"
    return f"{arms}, {'all seeds' if job.stage.shared else f'seed {job.seed}'}: {job.stage.name}"


def failure(job: Job, code: int) -> str:
    """The error a failed stage printed, or what its exit code says, and where its log is."""
    log = job.run_dir / "log.txt"
    lines = log_lines(log)
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if code == 2 and errors:
        return "\n".join(lines[errors[-1] :]).removeprefix("error: ")
    if shutil.disk_usage(job.run_dir).free < FULL:  # then the log may not say so
        return str(disk_error(OSError(errno.ENOSPC, "full"), job.run_dir))
    if code < 0:
        return f"killed by signal {-code}; the same command continues from its last checkpoint (log: {log})"
    tail = "\n  ".join(lines[-12:])
    return f"exit {code}, log {log}:\n  {tail}"


def log_lines(log: Path) -> list[str]:
    """What a stage has printed; nothing where it left no log that can be read."""
    try:
        there = log.is_file()  # reading a pipe would wait for ever
        return log.read_text(encoding="utf-8", errors="replace").splitlines() if there else []
    except OSError:
        return []


def bars(running: dict[Job, tuple[Any, float]], finished: int, total: int, failed: int) -> Table:
    """A line per running stage: arm, seed, stage, bar, loss, time left."""
    table = Table.grid(padding=(0, 2))
    for job, (_, started) in running.items():
        progress = read_progress(job.run_dir)
        share = min(1.0, progress["step"] / progress["total"]) if progress and progress["total"] else 0.0
        filled = int(24 * share)
        loss = f"loss {progress['loss']:.4f}" if progress and progress["loss"] is not None else ""
        left = (
            f"{progress['seconds_left']:.0f} s left"
            if progress and progress["seconds_left"] is not None
            else f"{time.monotonic() - started:.0f} s"
        )
        table.add_row(
            Text(describe(job)),
            Text.assemble(("━" * filled, "cyan"), ("━" * (24 - filled), "dim")),
            f"{share:4.0%}",
            loss,
            left,
        )
    more = f", {failed} failed" if failed else ""
    table.add_row(Text.assemble((f"stage {finished + len(running)} of {total}", "bold"), more))
    return table


def read_progress(run_dir: Path) -> dict[str, Any] | None:
    """A running stage's `progress.json`; None before it has written one, and where it is damaged."""
    file = run_dir / "progress.json"
    try:
        return checked(schemas.PROGRESS, file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError):
        return None
