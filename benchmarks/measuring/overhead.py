"""What our own layers cost: a training step under the command line against the bare loop, reading data, starting up.

    python -m benchmarks.measuring.overhead <paper> <folder> <steps>     times the bare loop; prints a line of JSON

A stage times its own steps with `StepClock`, which `--trainer.callbacks+=benchmarks.measuring.overhead.StepClock` adds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np

from benchmarks.measuring.latency import load
from benchmarks.measuring.starting import idle_stages
from benchmarks.running.recipes import ROOT
from common.errors import UserError
from common.workload import Source, Training

WARMUP = 20  # steps that do not count; a compiling preset has compiled by then
STEPS = 200
ROUNDS = 3  # bare loop and stage take turns, so that a slow minute of the machine hits both
READ_SECONDS = 5.0
STARTS = 5
LIMITS = {"make list": 2.0, "--help of a stage": 3.0}  # seconds


Times = list[tuple[float, float]]
"""When steps begin, in seconds: by the clock, and of the process's own processor time."""


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class StepClock(L.Callback):
    """Writes the times at which training steps begin to `step_times.json` in the run folder."""

    def __init__(self) -> None:
        self.times: Times = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.times.append(now())

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        Path(trainer.default_root_dir, "step_times.json").write_text(json.dumps(self.times), encoding="utf-8")


def summary(times: Times, warmup: int = WARMUP) -> dict[str, float]:
    """Milliseconds from step to step, and the seconds that the steps before these took."""
    steps, processor = np.diff(times[warmup:], axis=0).T * 1e3
    return {
        "mean_ms": round(float(steps.mean()), 3),
        "median_ms": round(float(np.median(steps)), 3),
        "p95_ms": round(float(np.quantile(steps, 0.95)), 3),
        "processor_ms": round(float(processor.mean()), 3),
        "warmup_s": round(times[warmup][0] - times[0][0], 2),
    }


def bare(training: Training, folder: Path, steps: int) -> Times:
    """Times at which the steps of the loop by hand begin."""
    step = training.bare(folder)
    times: Times = []
    for _ in range(steps):
        times.append(now())
        step()
    return times


def run(command: list[str]) -> str:
    """Run `python <command>` from the project's root; UserError with the end of its output when it fails."""
    made = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace")
    if made.returncode:
        raise UserError(f"{' '.join(command[:4])} ... failed:\n{(made.stdout + made.stderr)[-2000:]}")
    return made.stdout


def training_overhead(paper: str, training: Training, steps: int = STEPS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Bare loop, stage, and stage with the fast preset, in turns; of each the round of the middle.

    The overhead is that of processor time, which other programs on the machine disturb less, in the mean over steps,
    which counts what happens now and then too: checkpoints, logs.
    """
    rows: dict[str, list[dict[str, float]]] = {"bare loop": [], "stage": [], "stage --preset fast": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "inputs")
        folder.mkdir()
        training.prepare(folder)
        stage = [
            "-m", *training.command(folder), "--trainer.callbacks+=benchmarks.measuring.overhead.StepClock",
            "--trainer.max_steps", str(steps + WARMUP),
        ]  # fmt: skip
        for turn in range(rounds):
            times = json.loads(run(["-m", "benchmarks.measuring.overhead", paper, str(folder), str(steps + WARMUP)]))
            rows["bare loop"].append(summary(times))
            for name in list(rows)[1:]:
                folder_of_run = Path(scratch, f"{name.split()[-1]}-{turn}")
                run([*stage, "--run_dir", str(folder_of_run), *name.split()[1:]])
                rows[name].append(summary(json.loads((folder_of_run / "step_times.json").read_text(encoding="utf-8"))))
    typical = {
        name: sorted(found, key=lambda one: one["processor_ms"])[len(found) // 2] for name, found in rows.items()
    }
    spread = {name: [one["processor_ms"] for one in found] for name, found in rows.items()}
    plain, ours, fast = (typical[name]["processor_ms"] for name in rows)
    return {
        "steps": steps,
        "rounds": spread,
        **typical,
        "overhead": round(ours / plain - 1, 4),
        "preset_speedup": round(ours / fast, 3),
    }


def reading(source: Source, seconds: float = READ_SECONDS) -> dict[str, float]:
    """Samples that one process reads in a second of processor time, once the operating system's caches are warm."""
    with tempfile.TemporaryDirectory() as scratch:
        read = source.build(Path(scratch))
        for index in range(8):
            read(index)
        times: list[float] = []
        before = time.process_time()
        while sum(times) < seconds or len(times) < 5:
            started = time.perf_counter()
            read(len(times))
            times.append(time.perf_counter() - started)
        processor = time.process_time() - before
    return {
        "samples_per_second": round(len(times) / processor, 2),
        "median_ms": round(statistics.median(times) * 1e3, 3),
        "p95_ms": round(float(np.quantile(times, 0.95)) * 1e3, 3),
        "samples": len(times),
    }


def starting(training: Training | None) -> dict[str, Any]:
    """Seconds from a command's start to its end, after one that fills the operating system's caches; and those of a
    stage in a warm worker, with where they go.
    """
    commands = {"make list": ["-m", "benchmarks.catalogue"]}
    if training is not None:
        commands["--help of a stage"] = ["-m", training.command(Path())[0], "fit", "--help"]
    found = {"a stage of two steps": idle_stages()}
    for name, command in commands.items():
        times, own = [], []
        for attempt in range(STARTS + 1):
            started, before = time.perf_counter(), os.times()
            subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True)
            after = os.times()
            if attempt:
                times.append(time.perf_counter() - started)
                own.append(after.children_user + after.children_system - before.children_user - before.children_system)
        found[name] = {
            "median_s": round(statistics.median(times), 2),
            "least_s": round(min(times), 2),
            "most_s": round(max(times), 2),
            "processor_s": round(statistics.median(own), 2),
            "limit_s": LIMITS[name],
        }
    return found


def main(arguments: list[str]) -> None:
    paper, folder, steps = arguments
    training = load(paper).training
    assert training is not None
    print(json.dumps(bare(training, Path(folder), int(steps))))


if __name__ == "__main__":
    main(sys.argv[1:])
