"""A rehearsal: every stage of the paper's configs runs on stand-ins, and every training resumes. What that covered."""

import filecmp
import re
from collections.abc import Iterator
from typing import Any

import yaml
from rich.console import Console

from benchmarks import runner
from benchmarks.recipes import Job
from common.training.checkpoints import checkpoints

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
    return outcome


def rewind(job: Job) -> None:
    """Leave a finished training stage as an interruption right after its first checkpoint would have left it."""
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
        console.print(f"  {name:20}{'; '.join(words)}", soft_wrap=True)


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
