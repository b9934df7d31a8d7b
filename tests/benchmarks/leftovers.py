"""The demonstration project after everything has run in it: what reproductions, submissions and measurements leave.

    python -m tests.benchmarks.leftovers <folder>

makes it in a folder and runs all commands that read what was left; the last line says how they ended.
"""

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import catalogue, null, report, reproduce, status
from benchmarks.running import launch, recipes, results, runner
from common.training.runs import save_axis, save_picture
from scripts import accept, readme_tables, wandb_report
from tests.benchmarks.demo import arms, finish, make_project, request

EAGER = {"median_ms": 1.0, "p95_ms": 2.0, "calls": 3, "peak_bytes": 10}
NETWORK = {"flops": 1, "against": "net", "reported": {"ms": 1}, "source": "T1", "params": 3, "ratios": {"ms": 1.0},
           "variants": {"eager": EAGER, "fast": {"error": "no"}}}  # fmt: skip
SPEED = {"paper": "demo", "networks": {"found": {"net": NETWORK}}, "sources": {"found": {"a": {"median_ms": 1}}}}

MEASURED = Path(__file__).parents[2] / "benchmarks/results/speed/mobilesam.cpu.json"


def run_nothing(jobs: list[recipes.Job], *_: object, **__: object) -> runner.Outcome:
    """In the place of the runner: what has not finished fails."""
    return runner.Outcome(failed={job: 1 for job in jobs if job.done is None})


def offline_run(folder: Path) -> None:
    """What W&B keeps of a stage that ran without a network, in a log of one piece a record."""
    from wandb.proto.wandb_internal_pb2 import Record

    begun = Record()
    begun.run.run_group, begun.run.display_name, begun.run.job_type = "demo/mini", "method/seed0", "evaluate"
    written = [begun]
    for step in range(4):
        row = Record()
        for name, value in {"test/accuracy": step / 7, "trainer/global_step": step}.items():
            row.history.item.add(key=name, value_json=json.dumps(value))
        written.append(row)
    content = b":W&B" + bytes(3)
    for record in written:
        text = record.SerializeToString()
        content += struct.pack("<IHB", 0, len(text), 1) + text
    file = folder / "wandb" / "offline-run-1" / "run-1.wandb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def fill(project: Path) -> None:
    """Everything that a reproduction, a submission and a speed measurement leave."""
    wanted = request(project, seeds=2)
    expanded = recipes.jobs(wanted)
    tasks = {}
    for job in recipes.unique(expanded):
        finish(job, accuracy=0.5 + 0.1 * job.seed + 0.05 * ("method" in job.arms), parameters=1000.0)
        curves = job.run_dir / "curves" / "version_0" / "metrics.csv"
        curves.parent.mkdir(parents=True)
        curves.write_text("epoch,step,train/loss\n" + "".join(f"0,{k},{1 / (k + 1)}\n" for k in range(9)))
        save_axis(job.run_dir, ["train/loss"], "calls")
        noise = np.random.default_rng(job.seed).integers(0, 255, (100, 100, 3), np.uint8)
        save_picture(job.run_dir, "scene", noise, "a caption")
        save_picture(job.run_dir, "scene, truth", noise[:9, :9], "a caption", reference=True)
        (job.run_dir / "log.txt").write_text("starting\nerror: something is wrong\n")
        (job.run_dir / "progress.json").write_text(
            '{"step": 3, "total": 10, "loss": 0.5, "seconds_left": 4.0, "time": 1.0}'
        )
        (job.run_dir / "config.yaml").write_text("model: {size: 3}\nrun_dir: somewhere\n")
        tasks[str(job.seed)] = str(job.run_dir)
    shutil.copytree(tasks["1"], project / "runs/demo/mini/train-f/seed2")
    (project / "runs/demo/mini/train-f/seed2/done.json").unlink()
    tasks["2"] = str(project / "runs/demo/mini/train-f/seed2")
    offline_run(expanded["method"][0][-1].run_dir)
    found = results.judged(results.collect(wanted, arms("mini"), expanded), recipes.page("demo"))
    results.write(results.path(wanted), found)
    results.write(results.reference("demo", "mini"), found)
    entry = {"job": "7", "array": True, "stage": "train", "arms": ["method"], "fingerprint": "f", "tasks": tasks,
             "after": ["6"], "script": str(wanted.folder / "slurm" / "01.sh")}  # fmt: skip
    (wanted.folder / "slurm").mkdir()
    (wanted.folder / "slurm" / "jobs.json").write_text(json.dumps([entry, {**entry, "array": False, "tasks": {}}]))
    whole = json.loads(MEASURED.read_text(encoding="utf-8"))  # of a real recipe: all parts there are
    for file in (project / "runs/demo/speed/cpu.json", project / "results/speed/demo.cpu.json"):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(SPEED))
        file.with_name(file.name.replace("cpu", "gpu")).write_text(json.dumps({**whole, "paper": "demo"}))
    for chain in recipes.jobs(request(project, seeds=2, first_seed=null.OTHER_SEEDS, arms=("plain",)))[
        "plain"
    ].values():
        for job in chain:
            finish(job, accuracy=0.5)


QUEUE = {
    ("7", "1"): launch.Queued("FAILED", "NonZeroExitCode", "1:00", "n1"),
    ("7", "2"): launch.Queued("RUNNING", "", "1:00", "n1"),
}


def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project with all that was left in it, for which the harness now works."""
    make_project(root, monkeypatch)
    (root / "projects/demo/README.md").write_text("<!-- measured mini: accuracy -->\n<!-- /measured -->\n")
    monkeypatch.setenv("RUNS", str(root / "runs"))
    monkeypatch.setattr(accept, "uncommitted", lambda paper: [])
    monkeypatch.setattr(accept, "ROOT", root)
    for name in ("README", "SMALL"):
        monkeypatch.setattr(readme_tables, name, root / f"{name}.md")
        getattr(readme_tables, name).write_text(readme_tables.BEGIN + readme_tables.END)
    monkeypatch.setattr(launch, "squeue", lambda: QUEUE)
    monkeypatch.setattr(runner, "run", run_nothing)
    fill(root)


def commands(project: Path) -> list[Callable[[], int]]:
    """Everything that reads what runs have left."""
    runs = str(project / "runs")
    return [
        lambda: report.main(["demo"]),
        catalogue.main,
        lambda: reproduce.main(["demo", "--collect", "--seeds", "2", "--runs", runs]),
        lambda: status.main(["demo", "--runs", runs]),
        lambda: wandb_report.main(["demo", "--offline", "--runs", runs, "--output", str(project / "reports")]),
        readme_tables.main,
        lambda: accept.main(["demo", "--runs", runs]),
        lambda: accept.main(["demo", "--runs", runs, "--speed"]),
        lambda: null.main(["demo", "--seeds", "2", "--runs", runs]),
    ]


CODES = [0, 0, 0, 0, 0, 0, 2, 0, 0]
"""How they end where nothing is damaged: two seeds are too few to become the reference."""


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        make(Path(sys.argv[1]), patch)
        ended = [command() for command in commands(Path(sys.argv[1]))]
    print(ended)
