"""A rehearsal: every stage of the paper's configs runs on stand-ins, and every training resumes. What that covered.

A stage whose config is meant for several devices (`trainer.devices` or `trainer.num_nodes` above 1) runs once more, as
two processes.
"""

import filecmp
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.running import runner
from benchmarks.running.job_scripts import configured, number
from benchmarks.running.launch import torchrun
from benchmarks.running.recipes import Job

UNDISTURBED = "undisturbed.safetensors"
"""The weights of a training stage's first run, which its resumed run has to meet."""


def run(jobs: list[Job], paper: str, label: str, slots: int, console: Console) -> runner.Outcome:
    """Run all jobs, then put every training stage back to its first checkpoint and have it continue from there.

    A stage whose resumed run does not end with the same weights, bit for bit, has failed.
    """
    outcome = runner.run(jobs, paper, label, slots, console)
    fits = [job for job in jobs if job.stage.run == "fit" and job.done]
    for job in fits:
        if not (job.run_dir / UNDISTURBED).exists():
            rewind(job)
    resumed = runner.run(fits, paper, label, slots, console)
    outcome.ran += resumed.ran
    outcome.skipped += resumed.skipped
    outcome.failed |= resumed.failed
    for job in fits:
        if job.done and not resumed_equal(job):
            console.print(f"[red]failed[/] {runner.describe(job)}: the resumed run ends with other weights")
            outcome.failed[job] = 1
    doubled = runner.run(in_two_processes(jobs), paper, label, slots, console)
    outcome.ran += doubled.ran
    outcome.failed |= doubled.failed
    return outcome


def in_two_processes(jobs: list[Job]) -> list[Job]:
    """Finished stages that are meant for several devices, as jobs of two processes."""
    doubled = []
    for job in jobs:
        if job.done and for_several_devices(job):
            folder = two_processes(job)
            argv = [*job.argv, "--trainer.devices", "2", "--run_dir", str(folder)]
            doubled.append(replace(job, argv=argv, run_dir=folder))
    torchrun(doubled, "2")
    return doubled


def for_several_devices(job: Job) -> bool:
    """Whether a stage's config asks for more than one device."""
    trainer = configured(job, "trainer")
    return any(number(trainer.get(name)) > 1 for name in ("devices", "num_nodes"))


def two_processes(job: Job) -> Path:
    """The run folder of a stage's two processes, beside that of the one."""
    return job.run_dir.with_name(f"{job.run_dir.name}-two-processes")


def rewind(job: Job) -> None:
    """Leave a finished training stage as an interruption right after its first checkpoint would have left it."""
    from common.training.checkpoints import checkpoints  # here, because a dry run needs no torch

    for later in checkpoints(job.run_dir / "checkpoints")[:-1]:
        later.unlink()
    (job.run_dir / "done.json").unlink()
    (job.run_dir / "weights.safetensors").rename(job.run_dir / UNDISTURBED)


def resumed_equal(job: Job) -> bool:
    """Whether a stage did continue from a checkpoint, and ended where the undisturbed run had ended."""
    log = (job.run_dir / "log.txt").read_text(errors="replace")
    continued = re.search(r"^continuing from ", log, re.MULTILINE) is not None
    return continued and filecmp.cmp(job.run_dir / UNDISTURBED, job.run_dir / "weights.safetensors", shallow=False)


def print_coverage(jobs: list[Job], console: Console) -> None:
    """A line for every stage: what it loaded and read, and what became of its checkpoint."""
    names = list(dict.fromkeys(job.stage.name for job in jobs))
    finished = {name: [job for job in jobs if job.stage.name == name and job.done] for name in names}
    console.print(f"covered: {sum(map(bool, finished.values()))} of {len(names)} stages")
    for name, done in finished.items():
        configs = [yaml.safe_load((job.run_dir / "config.yaml").read_text()) for job in done]
        before = [earlier.stage.name for job in done for earlier in job.upstream]
        words: list[str] = [done[0].stage.run if done else "not finished"]
        for what, found in (("weights", _weights(configs)), ("data", _formats(configs)), ("outputs of", before)):
            if listed := ", ".join(sorted(set(found))):
                words.append(f"{what} {listed}")
        if done and done[0].stage.run == "fit" and all(resumed_equal(job) for job in done):
            words.append("2 steps, checkpoint, resumed after step 1 with equal weights")
        if done and any((two_processes(job) / "done.json").exists() for job in done):
            words.append("in two processes")
        console.print(f"  {name:{max(map(len, names))}} {'; '.join(words)}", soft_wrap=True)


def _weights(configs: Any) -> Iterator[str]:
    """Pretrained weights that configs name."""
    for value in _values(configs):
        if isinstance(value, str) and value.startswith("$WEIGHTS_ROOT/"):
            yield value.rsplit("/", 1)[-1]


def _formats(configs: Any) -> Iterator[str]:
    """Readers of on-disk formats that configs name."""
    for value in _values(configs):
        if isinstance(value, str) and value.startswith("common.data.readers."):
            yield value.rsplit(".", 1)[-1]


def _values(config: Any) -> Iterator[Any]:
    if isinstance(config, dict | list):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _values(value)
    else:
        yield config
