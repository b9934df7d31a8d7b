"""Results files: what was measured, per arm and seed, merged so that nothing stale stays and nothing valid is lost.

What a user measures lies beside its run folders, `<runs>/<paper>/<label>/results.json` (a pilot's: `pilot.json`). The
committed files in `benchmarks/results/` are the reference, which only `make accept` renews.
"""

import csv
import hashlib
import json
import math
import shlex
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.judging import tables
from benchmarks.judging.checked import shown
from benchmarks.judging.tables import Paper
from benchmarks.running import origins, recipes, schemas
from benchmarks.running.recipes import ROOT, Job, Request, portable
from common.data.files import is_file, readable
from common.errors import UserError
from common.paths import runs_folder
from common.recipe import Arm
from common.schemas import checked
from common.training.runs import read_done, write_json

RESULTS = ROOT / "benchmarks" / "results"
REPORTS = ROOT / "reports"
RULES = sorted((Path(__file__).parents[1] / "judging").glob("*.py"))
"""What verdicts follow from, beside figures and page."""


def path(request: Request) -> Path:
    """What a request's own runs have measured."""
    return request.folder / ("pilot.json" if request.pilot else "results.json")


def reference(paper: str, label: str) -> Path:
    """The committed results of a recipe at a scale."""
    return RESULTS / f"{paper}.{label}.json"


def references(paper: str) -> dict[str, Path]:
    """A recipe's committed results, by label."""
    return {file.name.split(".")[1]: file for file in sorted(RESULTS.glob(f"{paper}.*.json"), key=lambda f: f.stem)}


def own(paper: str, runs: Path) -> dict[str, Path]:
    """What was measured on this machine, by label."""
    return {file.parent.name: file for file in sorted((runs / paper).glob("*/results.json"))}


def read(file: Path) -> dict[str, Any] | None:
    """A results file, None where there is none yet; UserError where it is broken, or of another recipe or scale."""
    remedy = (
        "restore it (git checkout)"
        if file.is_relative_to(RESULTS)
        else "delete it; make reproduce writes it again from the run folders"
    )
    content = _content(file)
    if content is None:
        return None
    try:
        found = checked(schemas.RESULTS, content)
    except ValueError as error:
        raise UserError(f"{shown(file)} is damaged: {error}: {remedy}") from None
    label = found["scale"] if found["data"] == "default" else f"{found['scale']}-{found['data']}"
    is_reference = file.is_relative_to(RESULTS)
    place = tuple(file.stem.split(".", 1)) if is_reference else (file.parents[1].name, file.parent.name)
    if (found["paper"], label) != place:
        raise UserError(f"{shown(file)} holds results of {found['paper']} at {label}: move it where they belong")
    return found


def read_speed(file: Path) -> dict[str, Any] | None:
    """What `make speed` has measured, None where there is no such file; UserError where it is broken."""
    content = _content(file)
    try:
        return None if content is None else checked(schemas.SPEED, content)
    except ValueError as error:
        raise UserError(f"{shown(file)} is damaged: {error}: delete it; make speed measures it again") from None


def _content(file: Path) -> bytes | None:
    """A file's bytes, None where it is not there; UserError where something else is in its place."""
    if not is_file(file):
        return None
    with readable(file):
        return file.read_bytes()


def statuses(file: Path, paper: Paper) -> dict[str, str]:
    """The verdict of each claim in a results file, by the present page; UserError where it cannot be read."""
    return {verdict["claim"]: verdict["status"] for verdict in read_judged(file, paper)["verdicts"]}


def read_judged(file: Path, paper: Paper) -> dict[str, Any]:
    """A results file, judged by the present page."""
    found = read(file)
    assert found is not None
    return judged(found, paper)


def judged(found: dict[str, Any], paper: Paper) -> dict[str, Any]:
    """The same results with the verdicts of the present page, judged anew where page, sizes or rules have changed."""
    counted = networks(paper.paper)
    digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode())
    for file in (tables.PAPERS / f"{paper.paper}.yaml", *RULES):
        digest.update(file.read_bytes())
    figures = {name: arm["seeds"] for name, arm in found["arms"].items()}
    digest.update(json.dumps([figures, found.get("plan")], sort_keys=True).encode())
    complete = [verdict["claim"] for verdict in found.get("verdicts", [])] == [claim.id for claim in paper.claims]
    if found.get("judged_by") == digest.hexdigest()[:16] and complete:
        return found
    from benchmarks.judging.verdict import judge  # here, because `make list` starts without scipy

    plan = found.get("plan", "fixed")
    verdicts = [
        asdict(verdict)
        for verdict in judge(_planned(found), paper, counted, plan="auto" if plan == "auto" else "fixed")
    ]
    return {**found, "judged_by": digest.hexdigest()[:16], "verdicts": verdicts}


def reference_for(found: dict[str, Any], paper: Paper) -> dict[str, Any] | None:
    """The committed results of the same paper, scale and data, judged by the present page; None without any."""
    label = found["scale"] if found["data"] == "default" else f"{found['scale']}-{found['data']}"
    there = read(reference(paper.paper, label))
    return judged(there, paper) if there else None


def seconds_left(jobs: list[Job], slots: int) -> float:
    """About how long jobs that are not done take, by what the same stages took with other seeds."""
    took: dict[str, list[float]] = {}
    for job in jobs:
        for file in job.run_dir.parent.glob("seed*/done.json"):
            if done := read_done(file.parent):
                took.setdefault(job.fingerprint, []).append(done.get("cpu_seconds") or done["wall_seconds"])
    known = [
        sum(took[job.fingerprint]) / len(took[job.fingerprint])
        for job in jobs
        if job.done is None and job.fingerprint in took
    ]
    return sum(known) / slots


def arm_seconds(arm: dict[str, Any]) -> float:
    """About what one more seed of an arm costs, in seconds of one core: its stages that are not shared."""
    own = [stage for stage in arm.get("stages", []) if not stage.get("shared")]
    return sum(stage.get("cpu_seconds") or stage.get("seconds") or 0.0 for stage in own)


def _planned(found: dict[str, Any]) -> dict[str, Any]:
    """Results without the seeds that a fixed plan did not ask for: others that happen to be there decide nothing."""
    plan = found.get("plan")
    if not isinstance(plan, list):
        return found
    arms = {
        name: {**arm, "seeds": {seed: values for seed, values in arm["seeds"].items() if int(seed) in plan}}
        for name, arm in found["arms"].items()
    }
    return {**found, "arms": arms}


def networks(paper: str) -> dict[str, dict[str, float]]:
    """Parameters and FLOPs of a paper's networks at the real size, as `make speed` counted them on any device.

    Those of the reference, and on top of them those that were counted here.
    """
    counted: dict[str, dict[str, float]] = {}
    here = sorted((runs_folder() / paper / "speed").glob("*.json"))
    for file in [*sorted((RESULTS / "speed").glob(f"{paper}.*.json")), *here]:
        measured = read_speed(file) or {}
        for name, entry in (measured["networks"]["found"] if measured.get("networks") else {}).items():
            counted[name] = {key: entry[key] for key in ("params", "flops") if entry.get(key) is not None}
    return counted


def metrics(chain: list[Job]) -> dict[str, float]:
    """An arm's metrics for one seed: its last stage's, and the cost of its stages (foundations excepted)."""
    last = chain[-1].done
    assert last is not None
    own = [job for job in chain if not job.foundation and job.stage.run in ("fit", "predict") and job.done]
    costs = [job.done["cost"] for job in own if job.done]
    train = {
        "train_seconds": sum(cost["seconds"] for cost in costs),
        "train_tflops": sum(cost["flops"] for cost in costs) / 1e12,
        "fit_tflops": sum(job.done["cost"]["flops"] for job in own if job.done and job.stage.run == "fit") / 1e12,
    }
    return {name: _figure(value) for name, value in {**last["metrics"], **(train if costs else {})}.items()}


def _figure(value: float) -> float:
    """A figure; infinite where it is too large to reckon with."""
    too_large = math.isfinite(value) and abs(value) > schemas.LARGEST
    return math.copysign(math.inf, value) if too_large else value


def collect(request: Request, arms: dict[str, Arm], expanded: dict[str, dict[int, list[Job]]]) -> dict[str, Any]:
    """Results of all arms and seeds that have finished, with what still holds of an earlier file.

    An arm's earlier figures hold when the fingerprints of all its stages are the present ones: the present code and
    configs would measure them again.

    Args:
        expanded: the jobs of every arm, as `recipes.jobs` makes them.
    """
    try:
        old = read(path(request)) or {"arms": {}}
    except UserError:  # the run folders hold it all
        old = {"arms": {}}
    found: dict[str, Any] = {}
    used: list[Job] = []
    for name, arm in arms.items():
        chains = expanded[name]
        stages = [_stage(job) for job in next(iter(chains.values()))]
        seeds: dict[str, dict[str, float]] = {}
        before = old["arms"].get(name, {"stages": []})
        if [stage["fingerprint"] for stage in before["stages"]] == [stage["fingerprint"] for stage in stages]:
            seeds.update(before["seeds"])
            for stage, earlier in zip(stages, before["stages"], strict=True):
                for key in ("seconds", "cpu_seconds"):
                    stage[key] = stage[key] or earlier.get(key)
        for seed, chain in chains.items():
            if all(job.done for job in chain):
                seeds[str(seed)] = metrics(chain)
                used += chain
        if seeds:
            found[name] = {
                "method": arm.method,
                "description": arm.description,
                "stages": stages,
                "seeds": dict(sorted(seeds.items(), key=lambda item: int(item[0]))),
            }
    small = recipes.load(request.paper).small
    dones = [job.done for job in dict.fromkeys(used)]
    latest = max((done for done in dones if done), key=lambda done: done["finished"], default=None)
    return {
        "paper": request.paper,
        "scale": request.scale,
        "data": request.data or "default",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "plan": "auto" if request.auto else list(request.seed_numbers),
        "command": make_command(request),
        "versions": latest["versions"] if latest else old.get("versions", {}),
        "hardware": latest["hardware"] if latest else old.get("hardware", {}),
        "stage_seconds": round(sum(done["wall_seconds"] for done in dones if done), 1) or old.get("stage_seconds", 0.0),
        "cpu_seconds": round(sum(done.get("cpu_seconds", 0.0) for done in dones if done), 1)
        or old.get("cpu_seconds", 0.0),
        "arms": found,
    } | ({"origins": origins.origins(small, request.data)} if small and request.scale == "small" else {})


def make_command(request: Request) -> str:
    """The `make` line that measures it all again."""
    words = ["make", "reproduce", f"PAPER={request.paper}"]
    if request.scale != "mini":
        words.append(f"SCALE={request.scale}")
    if request.data:
        words += [f"DATA={request.data}", "DATA_ROOT=<folder>"]
    if request.scale != "rehearsal" and (seeds := seeds_word(request)) != "3":
        words.append(f"SEEDS={seeds}")
    words += [f"DEVICES={request.devices}"] if request.devices else []
    words += [f"LAUNCH=slurm NODES={request.nodes}"] if request.nodes > 1 else []
    given = " ".join(portable(word, str(request.runs)) for word in request.args)
    quoted = shlex.quote(given) if set(given) & set('"$`\\!') else f'"{given}"'
    return " ".join(words + ([f"ARGS={quoted}"] if given else []))


def seeds_word(request: Request) -> str:
    """SEEDS as the user gave it: `3`, `auto` or `100-104`."""
    numbers = request.seed_numbers
    return "auto" if request.auto else f"{numbers[0]}-{numbers[-1]}" if request.pilot else str(request.seeds)


def _stage(job: Job) -> dict[str, Any]:
    """What a results file says of a stage: nothing of this machine's folders."""
    done = job.done
    return {
        "stage": job.stage.name,
        "module": job.stage.module,
        "fingerprint": job.fingerprint,
        "command": job.portable_command(),
        "shared": job.stage.shared,
        "seconds": round(done["wall_seconds"], 1) if done else None,
        "cpu_seconds": round(done["cpu_seconds"], 1) if done and "cpu_seconds" in done else None,
    }


def write(file: Path, results: dict[str, Any]) -> Path:
    """Write a results file, unless nothing but its date would change."""
    try:
        old = read(file)
    except UserError:
        old = None
    if old is None or json.dumps({**old, "created": ""}) != json.dumps({**results, "created": ""}):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, results, durable=True)
    return file


def curves(run_dir: Path) -> dict[str, list[tuple[float, float]]]:
    """Logged series of a stage by name, (step, value); where a stage was resumed, the later attempt's values."""
    series: dict[str, dict[float, float]] = {}
    attempts = sorted(
        (file for file in run_dir.glob("curves/version_*/metrics.csv") if file.parent.name[8:].isdecimal()),
        key=lambda file: int(file.parent.name[8:]),
    )
    for file in attempts:
        if not file.is_file():  # reading a pipe would wait for ever
            continue
        with suppress(OSError, csv.Error), open(file, newline="", encoding="utf-8", errors="replace") as handle:
            for row in csv.DictReader(line.replace("\0", "") for line in handle):
                step = _number(row.get("step"))
                for name, text in row.items():
                    value = _number(text)
                    if not name or name in ("step", "epoch") or step is None or value is None:
                        continue
                    if math.isfinite(step):
                        series.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in series.items() if len(points) > 1}


def _number(text: Any) -> float | None:
    """A cell of a log as a number, as a figure is; None for an empty or damaged one."""
    try:
        return _figure(float(text))
    except (TypeError, ValueError):
        return None
