"""LAUNCH=slurm: a recipe's stages as SLURM jobs with dependencies; LAUNCH=torchrun: each on this machine's devices.

Every distinct stage gets a job script (`benchmarks.running.job_scripts`) in `runs/<paper>/<label>/slurm/`. Its seeds
are an array, unless all seeds share the stage; a stage starts when those it reads from have ended well, and the table
comes last. All is checked before the first job is submitted, and no submission is left half done.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.running import schemas
from benchmarks.running.job_scripts import Batch, batches
from benchmarks.running.recipes import Job, Request
from common.data.files import is_file, readable
from common.errors import UserError, refuse_control, unknown
from common.schemas import checked
from common.training.runs import write_json

LAUNCHERS = ("local", "torchrun", "slurm")
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"
)  # fmt: skip
Queue = dict[tuple[str, str], "Queued"]
"""The user's jobs by job id and array index ("" without one)."""


@dataclass(frozen=True)
class Launch:
    """How stages are started: the variables LAUNCH, PARTITION, TIME, ACCOUNT and SBATCH_ARGS of `make reproduce`."""

    how: str = "local"
    partition: str = ""
    time: str = ""
    account: str = ""
    sbatch_args: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """Lines of options of sbatch that every job gets."""
        given = {"partition": self.partition, "time": self.time, "account": self.account}
        lines = [shlex.quote(f"--{name}={value}") for name, value in given.items() if value]
        return lines + ([shlex.join(self.sbatch_args)] if self.sbatch_args else [])


LOCAL = Launch()


@dataclass(frozen=True)
class Queued:
    """What `squeue` says of a job, or of one element of an array."""

    state: str
    reason: str
    elapsed: str
    nodes: str

    @property
    def live(self) -> bool:
        return self.state not in ENDED


def check(launch: Launch, request: Request) -> None:
    """UserError for variables that do not go together."""
    if launch.how not in LAUNCHERS:
        raise unknown("launcher", launch.how, LAUNCHERS)
    if request.nodes < 1:
        raise UserError(f"NODES={request.nodes}: at least one node is needed.")
    texts = {"PARTITION": launch.partition, "TIME": launch.time, "ACCOUNT": launch.account}
    texts |= {"SBATCH_ARGS": " ".join(launch.sbatch_args), "RUNS": str(request.runs), "ARGS": " ".join(request.args)}
    texts |= {name: os.environ.get(name, "") for name in ("DATA_ROOT", "WEIGHTS_ROOT")}
    refuse_control(texts)  # a line break would begin a line of a job script
    if launch.how == "slurm" and "\\" in str(request.runs.absolute()):
        raise UserError(f"RUNS={request.runs}: SLURM takes a backslash in the path of a log for a sign of its own")
    vain = [f"NODES={request.nodes}"] if request.nodes > 1 else []
    vain += [
        f"{name.upper()}={getattr(launch, name)}" for name in ("partition", "time", "account") if getattr(launch, name)
    ]
    vain += [f"SBATCH_ARGS={' '.join(launch.sbatch_args)}"] if launch.sbatch_args else []
    if vain and launch.how != "slurm":
        raise UserError(f"{', '.join(vain)}: that goes with LAUNCH=slurm, and this is LAUNCH={launch.how}.")
    if launch.how == "local":
        return
    if request.scale == "rehearsal":
        raise UserError(f"a rehearsal runs on this machine's processor; leave LAUNCH={launch.how} out.")
    if request.devices and not re.fullmatch("[1-9][0-9]*", request.devices):
        raise UserError(f"DEVICES={request.devices}: with LAUNCH={launch.how} it is the number of devices per node.")


def check_cluster(request: Request, launch: Launch) -> str:
    """UserError for a partition that does not exist or has too few nodes, or no GPU where the scale needs one.

    Returns the name that the partition gives its GPUs ("h100"); empty where it has none, or none with a name.
    """
    nodes: dict[str, int] = {}
    gpus: dict[str, str] = {}
    default = ""
    for line in slurm("sinfo", "--noheader", "--format=%P|%D|%G").splitlines():
        name, count, gres = line.strip().split("|")
        default = name[:-1] if name.endswith("*") else default
        name = name.removesuffix("*")
        nodes[name] = nodes.get(name, 0) + int(count)
        if "gpu" in gres:
            gpus[name] = (re.findall(r"gpu:([a-z][\w-]*)", gres.lower()) or [""])[0]
    partition = launch.partition or default
    if not partition:
        raise UserError(f"this SLURM has no default partition: say PARTITION=, one of {', '.join(sorted(nodes))}.")
    if partition not in nodes:
        raise unknown("partition", partition, nodes)
    if request.nodes > nodes[partition]:
        raise UserError(f"NODES={request.nodes}: partition {partition} has {nodes[partition]} nodes.")
    if request.scale == "paper" and partition not in gpus:
        others = f"PARTITION={' or '.join(sorted(gpus))} has." if gpus else "SCALE=mini runs on CPUs."
        raise UserError(f"SCALE=paper trains on GPUs, and partition {partition} has none. {others}")
    return gpus.get(partition, "")


def torchrun(jobs: Iterable[Job], devices: str) -> None:
    """Have every job start as so many processes on this machine."""
    for job in jobs:
        job.argv = ["torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", "-m", *job.argv]


def submit(
    jobs: list[Job],
    request: Request,
    launch: Launch,
    collect: list[str],
    console: Console,
    dry_run: bool = False,
    force: bool = False,
) -> None:
    """Write the job scripts and submit those of stages that are neither done nor in the queue.

    Args:
        collect: arguments of `benchmarks.reproduce` that make the table of what has finished.
        dry_run: only write the scripts, and print the commands that would submit them.
        force: the recipe's own stages run again; what they left is removed when nothing stands against a submission.
    """
    folder = request.runs / request.paper / request.label / "slurm"
    queue = {} if dry_run else squeue()
    record = read_record(folder)
    queued = {
        (entry["fingerprint"], int(seed)): entry["job"]
        for entry in record
        for seed in entry["tasks"]
        if is_live(entry, seed, queue)
    }
    again = [job for job in jobs if force and not job.foundation]
    if busy := sorted({queued[job.fingerprint, job.seed] for job in again if (job.fingerprint, job.seed) in queued}):
        raise UserError(f"FORCE=1 removes what stages in the queue are working on; first: scancel {' '.join(busy)}")
    waiting = [job for job in jobs if job.done is None or job in again]
    new = [job for job in waiting if (job.fingerprint, job.seed) not in queued]
    if waiting and not new:
        raise UserError(f"all {len(waiting)} stages that are left are in the queue: make status PAPER={request.paper}")
    made = batches(new, request, launch.options, collect, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for batch in made:
        batch.script.write_bytes(os.fsencode(batch.text))
        batch.script.chmod(0o755)
    submitted: list[str] = []

    def show(arguments: list[str]) -> str:
        submitted.append(f"$job{len(submitted) + 1}")
        print(f"job{len(submitted)}=$(sbatch --parsable {' '.join(arguments)})")
        return submitted[-1]

    if dry_run:
        _submit_all(made, queued, show)
        return
    for batch in made:
        _sbatch(["--test-only", str(batch.script)])
    for job in again:
        shutil.rmtree(job.run_dir, ignore_errors=True)
    for job in new:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        (job.run_dir / "progress.json").unlink(missing_ok=True)

    def sbatch(arguments: list[str]) -> str:
        submitted.append(_sbatch(["--parsable", *arguments]).strip().split(";")[0])
        return submitted[-1]

    try:
        entries = _submit_all(made, queued, sbatch)
        old = [entry for entry in record if any(is_live(entry, seed, queue) for seed in entry["tasks"])]
        write_json(folder / "jobs.json", [*old, *entries], durable=True)
    except BaseException:
        cancel(submitted)
        raise
    cancel([entry["job"] for entry in record if not entry["tasks"] and is_live(entry, "", queue)])  # the earlier table
    for entry in entries:
        after = f"after {', '.join(entry['after'])}" if entry["after"] and entry["tasks"] else ""
        line = f"job {entry['job']:>7}  {entry['stage']:20} {seeds(entry):10} {after}".rstrip()
        console.print(Text(line), soft_wrap=True)
    said = (
        f"{len(new)} stages submitted, {len(jobs) - len(waiting)} done before, {len(waiting) - len(new)} were in the "
        f"queue; job scripts: {folder}\nmake status PAPER={request.paper} shows where they stand; "
        f"scancel {' '.join(submitted)} stops them"
    )
    console.print(Text(said), soft_wrap=True)


def squeue() -> Queue:
    """The user's jobs, those that ended a short while ago included."""
    found: Queue = {}
    listed = slurm("squeue", "--array", "--noheader", "--me", "--states=all", "--format=%F|%K|%T|%r|%M|%N")
    for line in listed.splitlines():
        job, index, state, reason, elapsed, nodes = line.strip().split("|")
        found[job, index if index.isdigit() else ""] = Queued(state, reason, elapsed, nodes)
    return found


def read_record(folder: Path) -> list[dict[str, Any]]:
    """What was submitted, job by job, as `schemas.Submitted` says; UserError where the record is damaged."""
    file = folder / "jobs.json"
    if not is_file(file):
        return []
    with readable(file):
        content = file.read_bytes()
    try:
        return checked(schemas.SUBMITTED, content)
    except ValueError as error:
        raise UserError(
            f"{file}, which says what was submitted, is damaged: {error}. See that none of its jobs is left in the "
            "queue (squeue --me, scancel), and delete it."
        ) from None


def find(entry: dict[str, Any], seed: str, queue: Queue) -> Queued | None:
    """Where a seed of a submitted job stands."""
    return queue.get((entry["job"], seed if entry["array"] else ""))


def is_live(entry: dict[str, Any], seed: str, queue: Queue) -> bool:
    """Whether a seed of a submitted job waits or runs."""
    found = find(entry, seed, queue)
    return found is not None and found.live


def seeds(entry: dict[str, Any]) -> str:
    """`seeds 0,1,2` of a submitted array."""
    return f"seed{'s' if len(entry['tasks']) > 1 else ''} {','.join(entry['tasks'])}" if entry["array"] else ""


def cancel(jobs: list[str]) -> None:
    """Take jobs out of the queue."""
    if jobs:
        subprocess.run(["scancel", *jobs], capture_output=True)


def slurm(*command: str) -> str:
    """Output of one of SLURM's commands; UserError where there is no SLURM, or it does not answer."""
    if shutil.which(command[0]) is None:
        raise UserError(
            f"there is no SLURM here: {command[0]} is not on the PATH. Run this on a login node of the cluster; "
            "without LAUNCH=slurm the stages run on this machine."
        )
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if ended.returncode:
        raise UserError(f"SLURM does not answer ({command[0]}): {ended.stderr.strip()}")
    return ended.stdout


def _submit_all(
    made: list[Batch], queued: dict[tuple[str, int], str], sbatch: Callable[[list[str]], str]
) -> list[dict[str, Any]]:
    """Submit scripts, each after the jobs it waits for. Returns the record of what was submitted.

    Seeds of a stage that wait for different jobs, because some were done or in the queue before, are submitted apart.

    Args:
        queued: ids of the jobs in the queue, by fingerprint and seed; the new ones are added.
    """
    record: list[dict[str, Any]] = []
    for batch in made:
        parts: dict[tuple[str, ...], list[Job]] = {}
        for job in batch.jobs:
            parts.setdefault(tuple(_waits_for(job, queued)), []).append(job)
        if not batch.jobs:
            parts = {tuple(f"afterany:{job}" for job in dict.fromkeys(queued.values())): []}
        for after, jobs in parts.items():
            options = [f"--array={','.join(str(job.seed) for job in jobs)}"] if batch.array else []
            options += [f"--dependency={','.join(after)}"] if after else []
            number = sbatch([*options, str(batch.script)])
            queued |= {(job.fingerprint, job.seed): number for job in jobs}
            record.append(
                {
                    "job": number,
                    "array": batch.array,
                    "stage": batch.name,
                    "arms": jobs[0].arms if jobs else [],
                    "fingerprint": jobs[0].fingerprint if jobs else "",
                    "tasks": {str(job.seed): str(job.run_dir) for job in jobs},
                    "after": [condition.split(":")[1] for condition in after],
                    "script": str(batch.script),
                }
            )
    return record


def _waits_for(job: Job, queued: dict[tuple[str, int], str]) -> list[str]:
    """Conditions under which a job may start: for each stage it reads from, the same seed's job, or all seeds' one."""
    found = {}
    for before in job.upstream:
        if number := queued.get((before.fingerprint, before.seed)):
            both_arrays = not before.stage.shared and not job.stage.shared
            found[number] = f"aftercorr:{number}" if both_arrays else f"afterok:{number}"
    return list(found.values())


def _sbatch(arguments: list[str]) -> str:
    ended = subprocess.run(["sbatch", *arguments], capture_output=True, encoding="utf-8", errors="replace")
    if ended.returncode:
        said = ended.stderr.strip().replace("\n", "\n  ")
        raise UserError(f"SLURM refuses {arguments[-1]}, and nothing was submitted:\n  {said}")
    return ended.stdout
