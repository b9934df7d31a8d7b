"""A rehearsal: every stage of the paper's configs runs on stand-ins, and trainings resume. What that covered.

Every stage runs once. Stages of one kind, the same script with the same parts, differ in numbers and names of data
alone: of each kind that trains, one is put back to its first checkpoint and continues from there; of each kind whose
config is meant for several devices (`trainer.devices` or `trainer.num_nodes` above 1), one runs again as two processes.
"""

import filecmp
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.running import certificates, runner
from benchmarks.running.job_scripts import configured, number
from benchmarks.running.recipes import Job, Request, check
from common.errors import UserError
from common.recipe import Stage
from common.rehearsal import owned
from common.training.runs import read_json, run_config, write_json

UNDISTURBED = "undisturbed.safetensors"
"""The weights of a training stage's first run, which its resumed run has to meet."""
FIRST = "undisturbed.json"
"""What the first run left as `done.json`."""


def run(
    jobs: list[Job], paper: str, label: str, slots: int, console: Console, stand_ins: tuple[str, Path] | None = None
) -> runner.Outcome:
    """Run all jobs; then one of each kind anew from its first checkpoint, and one of each kind in two processes.

    A stage whose resumed run does not end with the same weights, bit for bit, has failed.

    Args:
        stand_ins: the function that makes the stand-ins, and their folder.
    """
    with owned.without_others():
        if stand_ins is not None:
            make_stand_ins(*stand_ins, modules=[job.stage.module for job in jobs])
        outcome = runner.run(jobs, paper, label, slots, console)
        fits = [job for job in representatives(jobs) if job.stage.run == "fit" and job.done]
        for job in fits:
            if not (job.run_dir / UNDISTURBED).exists():
                rewind(job)
        resumed = runner.run(fits, paper, label, slots, console)
        outcome.ran += resumed.ran
        outcome.skipped += resumed.skipped
        outcome.failed |= resumed.failed
        for job in fits:
            if job.done and not resumed_equal(job):
                said = f" {runner.describe(job)}: the resumed run ends with other weights"
                console.print(Text.assemble(("failed", "red"), said))
                outcome.failed[job] = 1
        doubled = runner.run(in_two_processes(jobs), paper, label, max(1, slots // 2), console, processes=2)
        outcome.ran += doubled.ran
        outcome.failed |= doubled.failed
    return outcome


def make_stand_ins(function: str, folder: Path, modules: Iterable[str] = ()) -> None:
    """Have `module:function` write stand-ins into `folder`, once; half-written ones are made anew.

    Args:
        modules: what the stages will import: it is imported once for all of them and for this.
    """
    if (folder / "complete").exists():
        return
    variables = owned.variables(folder)
    log = folder.with_name(f"{folder.name}-log")
    argv = ["benchmarks.running.stand_ins", function, str(folder)]
    job = Job(Stage("stand-ins", argv[0]), 0, "", log, argv, [], variables)
    shutil.rmtree(log, ignore_errors=True)
    pool = runner.Pool(sorted({*modules, function.split(":")[0]}), True, variables)
    worker = pool.start(job, "")
    worker.join()
    if worker.exitcode:
        said = "\n".join(runner.log_lines(log / "log.txt"))
        raise UserError(f"the rehearsal's stand-ins could not be made in {folder}:\n{said[-2000:]}")


def representatives(jobs: Iterable[Job]) -> list[Job]:
    """The first job of every kind."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(kind(job), job)
    return list(found.values())


def kind(job: Job) -> str:
    """What two stages have in common that differ in numbers and data alone: the script, and the parts it is made of."""
    parts = {section: _parts(configured(job, section), section) for section in ("model", "data", "trainer")}
    given = {name: _parts(value, name.split(".")[0]) for name, value in job.stage.overrides.items()}
    return json.dumps([job.stage.module, job.stage.run, parts, given], sort_keys=True)


def _parts(setting: Any, section: str) -> Any:
    """A setting without its numbers and, but for classes, without texts that name data or files."""
    if isinstance(setting, dict):
        return {str(key): _parts(value, section) for key, value in setting.items()}
    if isinstance(setting, list | tuple):
        return [_parts(value, section) for value in setting]
    if setting is None or isinstance(setting, bool):
        return setting
    if isinstance(setting, str):
        named = section != "model" and not setting.startswith("common.") and not setting.startswith("projects.")
        return "name" if named or "/" in setting and setting.startswith("$") else setting
    return "number" if isinstance(setting, int | float) else "output"


def in_two_processes(jobs: list[Job]) -> list[Job]:
    """One finished stage of every kind that is meant for several devices, as a job of two processes."""
    doubled = []
    for job in representatives(job for job in jobs if for_several_devices(job)):
        if job.done:
            folder = two_processes(job)
            argv = [*job.argv, "--trainer.devices", "2", "--run_dir", str(folder)]
            doubled.append(replace(job, argv=argv, run_dir=folder))
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
    first = json.loads((job.run_dir / "done.json").read_text(encoding="utf-8"))
    at_checkpoint = _cpu_seconds_at(checkpoints(job.run_dir / "checkpoints")[0])
    write_json(job.run_dir / FIRST, first | {"cpu_seconds_at_checkpoint": at_checkpoint})
    (job.run_dir / "done.json").unlink()
    (job.run_dir / "weights.safetensors").rename(job.run_dir / UNDISTURBED)


def _cpu_seconds_at(checkpoint: Path) -> float:
    """Processor-seconds that a run had spent when it wrote a checkpoint."""
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return float(state.get("callbacks", {}).get("Cost", {}).get("cpu_seconds", 0.0))


def resumed_equal(job: Job) -> bool:
    """Whether a stage did continue from a checkpoint, and ended where the undisturbed run had ended."""
    if not (job.run_dir / UNDISTURBED).exists():
        return False
    log = "\n".join(runner.log_lines(job.run_dir / "log.txt"))
    continued = re.search(r"^continuing from ", log, re.MULTILINE) is not None
    return continued and filecmp.cmp(job.run_dir / UNDISTURBED, job.run_dir / "weights.safetensors", shallow=False)


def coverage(jobs: list[Job]) -> dict[str, dict[str, Any]]:
    """What became of every stage: what it loaded and read, whether it resumed, what it cost."""
    known = [job for job in jobs if job.done]
    tried = {kind(job): job.stage.name for job in reversed(known) if job.stage.run == "fit" and resumed_equal(job)}
    doubled = {kind(job): job.stage.name for job in reversed(known) if (two_processes(job) / "done.json").exists()}
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(job.stage.name for job in jobs):
        those = [job for job in jobs if job.stage.name == name]
        done = [job for job in those if job.done]
        configs = [run_config(job.run_dir) for job in done]
        found[name] = {
            "run": those[0].stage.run,
            "settings": len(those),
            "finished": len(done),
            "models": sorted({model for job in done for model in models(job)}),
            "weights": sorted({file for config in configs for file in _weights(config)}),
            "data": sorted({reader for config in configs for reader in _formats(config)}),
            "outputs_of": sorted({before.stage.name for job in done for before in job.upstream}),
            "resumed": sorted({tried[kind(job)] for job in done if kind(job) in tried}),
            "two_processes": sorted({doubled[kind(job)] for job in done if kind(job) in doubled}),
            "cpu_seconds": round(sum(map(cpu_seconds, done)), 1),
        }
    return found


def models(job: Job) -> list[str]:
    """Hub ids whose stand-ins a stage has opened."""
    return owned.SAID.findall("\n".join(runner.log_lines(job.run_dir / "log.txt")))


def cpu_seconds(job: Job) -> float:
    """Processor-seconds of all that a stage did in a rehearsal: once, resumed, and in two processes."""
    first, last = read_json(job.run_dir / FIRST, dict), read_json(job.run_dir / "done.json", dict)
    doubled = read_json(two_processes(job) / "done.json", dict)
    seconds = (last or {}).get("cpu_seconds", 0.0)  # of a resumed run, with what lay before its checkpoint
    if first:
        seconds += first.get("cpu_seconds", 0.0) - first.get("cpu_seconds_at_checkpoint", 0.0)
    return seconds + 2 * (doubled or {}).get("cpu_seconds", 0.0)  # one of two that work alike has written it


def print_coverage(jobs: list[Job], console: Console) -> None:
    """A line for every stage: what it loaded and read, and what became of its checkpoint."""
    found = coverage(jobs)
    console.print(f"covered: {sum(bool(stage['finished']) for stage in found.values())} of {len(found)} stages")
    for name, stage in found.items():
        words = [stage["run"] if stage["finished"] else "not finished"]
        seen = {"stand-in of": "models", "weights": "weights", "data": "data", "outputs of": "outputs_of"}
        words += [f"{what} {', '.join(stage[key])}" for what, key in seen.items() if stage[key]]
        resumed = "2 steps, checkpoint, resumed after step 1 with equal weights"
        for said, key in ((resumed, "resumed"), ("in two processes", "two_processes")):
            if stage[key]:
                words.append(said if stage[key] == [name] else f"{said}: as {', '.join(stage[key])}")
        console.print(Text(f"  {name:{max(map(len, found))}} {'; '.join(words)}"), soft_wrap=True)


def certify(request: Request, jobs: list[Job], stand_ins: Path) -> str:
    """Write the certificate of a rehearsal in which everything passed. Returns what was done, for people."""
    _, arms = check(request)
    if set(arms) != set(check(replace(request, arms=()))[1]) or request.args:
        return "no certificate: only a rehearsal of all arms, as they are, is worth one"
    found = coverage(jobs)
    if missing := [name for name, stage in found.items() if stage["finished"] < stage["settings"]]:
        return f"no certificate: not finished: {', '.join(missing)}"
    if missing := [name for name, stage in found.items() if stage["run"] == "fit" and not stage["resumed"]]:
        return f"no certificate: not resumed: {', '.join(missing)}"
    several = {job.stage.name for job in jobs if for_several_devices(job)}
    if missing := [name for name, stage in found.items() if name in several and not stage["two_processes"]]:
        return f"no certificate: not run in two processes: {', '.join(missing)}"
    now = certificates.versions()
    for job in jobs:
        ran = certificates.versions({name: v for name, v in (job.done or {})["versions"].items() if name in now})
        if any(now[name] != version for name, version in ran.items()):
            return f"no certificate: {job.stage.name} ran with other versions of its libraries: FORCE=1 runs it again"
    made = (read_json(stand_ins / "complete", dict) or {}).get("cpu_seconds", 0.0) + runner.server_seconds()[0]
    kept = {name: {key: stage[key] for key in KEPT} for name, stage in found.items()}
    return certificates.write(request.paper, kept, certificates.stages(jobs), made)


KEPT = ("run", "settings", "models", "weights", "data", "resumed", "two_processes", "cpu_seconds")
"""What a certificate says of a stage."""


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
