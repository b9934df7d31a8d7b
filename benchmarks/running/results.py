"""Results files: what was measured, per arm and seed, merged so that nothing stale stays and nothing valid is lost."""

import csv
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.judging.checked import shown
from benchmarks.running.recipes import ROOT, Job, Request, portable
from common.errors import UserError
from common.recipe import Arm
from common.training.runs import write_json

RESULTS = ROOT / "benchmarks" / "results"
REPORTS = ROOT / "reports"
REMEDY = "restore it (git checkout), or delete it and let make reproduce write it again"


def path(request: Request) -> Path:
    return RESULTS / f"{request.paper}.{request.label}.json"


def read(file: Path) -> dict[str, Any] | None:
    """A results file, None where there is none yet; UserError where it is broken."""
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{shown(file)}: not valid JSON ({error}): {REMEDY}") from None
    if not isinstance(found, dict) or not isinstance(found.get("arms"), dict):
        raise UserError(f"{shown(file)}: holds no arms: {REMEDY}")
    return found


def networks(paper: str) -> dict[str, dict[str, float]]:
    """Parameters and FLOPs of a paper's networks at the real size, as `make speed` counted them on any device."""
    counted: dict[str, dict[str, float]] = {}
    for file in sorted((RESULTS / "speed").glob(f"{paper}.*.json")):
        for name, entry in json.loads(file.read_text()).get("networks", {}).get("found", {}).items():
            counted[name] = {key: entry[key] for key in ("params", "flops") if key in entry}
    return counted


def metrics(chain: list[Job]) -> dict[str, float]:
    """An arm's metrics for one seed: its last stage's, and the cost of its stages (foundations excepted)."""
    last = chain[-1].done
    assert last is not None
    own = [job.done for job in chain if not job.foundation and job.stage.run in ("fit", "predict")]
    costs = [done["cost"] for done in own if done is not None]
    train = {
        "train_seconds": sum(cost["seconds"] for cost in costs),
        "train_tflops": sum(cost["flops"] for cost in costs) / 1e12,
    }
    return {**last["metrics"], **(train if costs else {})}


def collect(request: Request, arms: dict[str, Arm], expanded: dict[str, dict[int, list[Job]]]) -> dict[str, Any]:
    """Results of all arms and seeds that have finished, with what still holds of an earlier file.

    An arm's earlier figures hold when the fingerprints of all its stages are the present ones: the present code and
    configs would measure them again.

    Args:
        expanded: the jobs of every arm, as `recipes.jobs` makes them.
    """
    old = read(path(request)) or {"arms": {}}
    found: dict[str, Any] = {}
    used: list[Job] = []
    for name, arm in arms.items():
        chains = expanded[name]
        stages = [_stage(job) for job in chains[0]]
        seeds: dict[str, dict[str, float]] = {}
        before = old["arms"].get(name, {"stages": []})
        if [stage["fingerprint"] for stage in before["stages"]] == [stage["fingerprint"] for stage in stages]:
            seeds.update(before["seeds"])
            for stage, earlier in zip(stages, before["stages"], strict=True):
                stage["seconds"] = stage["seconds"] or earlier["seconds"]
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
    dones = [job.done for job in dict.fromkeys(used)]
    latest = max((done for done in dones if done), key=lambda done: done["finished"], default=None)
    return {
        "paper": request.paper,
        "scale": request.scale,
        "data": request.data or "default",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": make_command(request, max((len(arm["seeds"]) for arm in found.values()), default=0)),
        "versions": latest["versions"] if latest else old.get("versions", {}),
        "hardware": latest["hardware"] if latest else old.get("hardware", {}),
        "stage_seconds": round(sum(done["wall_seconds"] for done in dones if done), 1) or old.get("stage_seconds", 0.0),
        "arms": found,
    }


def make_command(request: Request, seeds: int) -> str:
    """The `make` line that measures it all again."""
    words = ["make", "reproduce", f"PAPER={request.paper}"]
    if request.scale != "mini":
        words.append(f"SCALE={request.scale}")
    if request.data:
        words += [f"DATA={request.data}", "DATA_ROOT=<folder>"]
    if seeds != 3 and request.scale != "rehearsal":
        words.append(f"SEEDS={seeds}")
    words += [f"DEVICES={request.devices}"] if request.devices else []
    words += [f"LAUNCH=slurm NODES={request.nodes}"] if request.nodes > 1 else []
    given = " ".join(portable(word, str(request.runs)) for word in request.args)
    return " ".join(words + ([f'ARGS="{given}"'] if given else []))


def _stage(job: Job) -> dict[str, Any]:
    """What a results file says of a stage: nothing of this machine's folders."""
    return {
        "stage": job.stage.name,
        "module": job.stage.module,
        "fingerprint": job.fingerprint,
        "command": job.portable_command(),
        "seconds": round(job.done["wall_seconds"], 1) if job.done else None,
    }


def write(request: Request, results: dict[str, Any]) -> Path:
    """Write the results file, unless nothing but its date would change."""
    file = path(request)
    old = read(file)
    if old is None or json.dumps({**old, "created": ""}) != json.dumps({**results, "created": ""}):
        file.parent.mkdir(exist_ok=True)
        write_json(file, results)
    return file


def curves(run_dir: Path) -> dict[str, list[tuple[float, float]]]:
    """Logged series of a stage by name, (step, value); where a stage was resumed, the later attempt's values."""
    series: dict[str, dict[float, float]] = {}
    attempts = sorted(
        run_dir.glob("curves/version_*/metrics.csv"), key=lambda file: int(file.parent.name.split("_")[1])
    )
    for file in attempts:
        with open(file, newline="") as handle:
            for row in csv.DictReader(handle):
                if not row.get("step"):
                    continue
                step = float(row["step"])
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        series.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in series.items() if len(points) > 1}
