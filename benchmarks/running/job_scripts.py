"""SLURM job scripts, one for every distinct stage and one for the table: plain files to read, edit and submit."""

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.running.recipes import ROOT, Job, Request, on_gpus

NOTICE = 90
"""Seconds before the time limit at which SLURM sends SIGUSR1 and a stage saves its step."""
SEED = "\0"
HEADER = """\
#!/usr/bin/env bash
# {what}
# `make reproduce ... LAUNCH=slurm` writes this file anew each time: to keep a change, submit a copy with sbatch.
{directives}
cd {root} || exit
"""
STAGE = """\
seed=${{SLURM_ARRAY_TASK_ID:-0}}
{exports}

srun --kill-on-bad-exit=1 --cpus-per-task={cpus} {python} -m {command}
code=$?

# 143: SLURM said that time is nearly up or the place is needed, and the stage stopped; it goes on from its checkpoint.
# A stage that another signal killed (memory, a lost node) goes on too, three times at most. An error ends the job.
if [ $code = 143 ] || {{ [ $code -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 3 ]; }}; then
  # this element of the array alone: SLURM_JOB_ID may be the number of the whole array
  scontrol requeue "${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}" && sleep 60
fi
exit $code
"""


@dataclass(eq=False)
class Batch:
    """What one script stands for: a stage with its seeds as an array, or once for all seeds; or the table (no jobs)."""

    name: str
    jobs: list[Job]
    script: Path
    text: str = field(repr=False)

    @property
    def array(self) -> bool:
        return bool(self.jobs) and not self.jobs[0].stage.shared


@dataclass(frozen=True)
class Layout:
    """What a stage occupies: nodes, processes per node (each with a GPU if the recipe wants any), cores per process."""

    nodes: int
    devices: int
    cpus: int


def configured(job: Job, section: str) -> dict[str, Any]:
    """A section (`trainer`, `data`) of the config files that a stage is started with."""
    found: dict[str, Any] = {}
    for name, value in zip(job.argv, job.argv[1:], strict=False):
        if name == "--config":
            found |= (yaml.safe_load((ROOT / value).read_text(encoding="utf-8")) or {}).get(section) or {}
    return found


def layout(job: Job) -> Layout:
    """What the stage's config says, or the command line over it; a core for every data worker."""
    trainer = configured(job, "trainer")
    trainer |= {
        name[10:]: value for name, value in zip(job.argv, job.argv[1:], strict=False) if name[:10] == "--trainer."
    }
    return Layout(
        nodes=number(trainer.get("num_nodes")),
        devices=number(trainer.get("devices")),
        cpus=number(configured(job, "data").get("num_workers")),
    )


def number(setting: Any) -> int:
    """A setting that is a number above 1; else 1, as for "auto"."""
    return int(setting) if re.fullmatch("[1-9][0-9]*", str(setting)) else 1


def batches(jobs: list[Job], request: Request, options: list[str], collect: list[str], folder: Path) -> list[Batch]:
    """A batch for every distinct stage of `jobs`, upstream first, and the table's.

    Args:
        options: lines of sbatch options for every job, after the script's own.
        collect: arguments of `benchmarks.reproduce` that make the table.
        folder: where the scripts go.
    """
    stages: dict[str, list[Job]] = {}
    for job in jobs:
        stages.setdefault(job.fingerprint, []).append(job)
    made = []
    for number, (fingerprint, own) in enumerate(stages.items(), 1):
        name = own[0].stage.name
        own.sort(key=lambda job: job.seed)
        script = folder / f"{number:02d}-{name}-{fingerprint}.sh"
        made.append(Batch(name, own, script, _stage_script(own, request, options)))
    table = folder / f"{len(made) + 1:02d}-table.sh"
    return [*made, Batch("table", [], table, _table_script(request, options, collect, folder))]


def _stage_script(jobs: list[Job], request: Request, options: list[str]) -> str:
    job, seeds = jobs[0], ",".join(str(job.seed) for job in jobs)
    shared = job.stage.shared
    wants = layout(job)
    whose = "all seeds" if shared else f"seed{'s' if len(jobs) > 1 else ''} {seeds}"
    log = f"{_literal(job.run_dir.absolute().parent)}/{'seed0' if shared else 'seed%a'}/log.txt"
    gpus = [f"--gres=gpu:{wants.devices}"] if on_gpus(request.paper, request.scale) else []
    directives = [
        f"--job-name={request.paper}-{job.stage.name}",
        *([] if shared else [f"--array={seeds}"]),
        " ".join([f"--nodes={wants.nodes} --ntasks-per-node={wants.devices} --cpus-per-task={wants.cpus}", *gpus]),
        f"--output={shlex.quote(log)} --open-mode=append",
        f"--requeue --signal=USR1@{NOTICE}",
        "--kill-on-invalid-dep=yes",
        *options,
    ]
    environment = dict(job.environment)
    if request.scale != "paper":
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["RUN_LABELS"] = "/".join(
        (request.paper, request.label, job.arms[0], job.stage.name, "seed0" if shared else f"seed{SEED}")
    )
    exports = "\n".join(f"export {name}={_shell(value)}" for name, value in environment.items())
    return HEADER.format(
        what=f"{request.paper} at {request.label} scale: {job.stage.name}, {whose} ({', '.join(job.arms)})",
        directives=_lines(directives),
        root=shlex.quote(str(ROOT)),
    ) + STAGE.format(
        exports=exports,
        cpus=wants.cpus,
        python=shlex.quote(sys.executable),
        command=_command(job),
    )


def _command(job: Job) -> str:
    """The stage's command with `$seed` in the seed's place, an option a line."""
    words = list(job.argv)
    if not job.stage.shared:
        for own in (job, *(before for before in job.upstream if not before.stage.shared)):
            folder = str(own.run_dir)
            words = [word.replace(folder, f"{own.run_dir.parent}/seed{SEED}") for word in words]
        words[words.index("--seed_everything") + 1] = SEED
    lines = [_shell(words[0])]
    for word in words[1:]:
        lines.append(_shell(word)) if word.startswith("--") else lines.append(f"{lines.pop()} {_shell(word)}")
    return " \\\n  ".join(lines)


def _shell(word: str) -> str:
    """A word for the shell, with $seed where SEED stands."""
    if SEED not in word:
        return shlex.quote(word)
    for character in '\\"$`':
        word = word.replace(character, f"\\{character}")
    return f'"{word.replace(SEED, "$seed")}"'


def _table_script(request: Request, options: list[str], collect: list[str], folder: Path) -> str:
    directives = [
        f"--job-name={request.paper}-table",
        "--nodes=1 --ntasks=1",
        f"--output={shlex.quote(_literal(folder.absolute() / 'table.txt'))}",
        *options,
    ]
    return (
        HEADER.format(
            what=f"{request.paper} at {request.label} scale: the table of all that has finished",
            directives=_lines(directives),
            root=shlex.quote(str(ROOT)),
        )
        + f"\n{shlex.quote(sys.executable)} -m benchmarks.reproduce {shlex.join(collect)}\n"
    )


def _literal(path: Path) -> str:
    """A path in which SLURM, which puts numbers in the place of `%a` and its like, reads no such pattern."""
    return str(path).replace("%", "%%")


def _lines(directives: list[str]) -> str:
    return "\n".join(f"#SBATCH {line}" for line in directives)
