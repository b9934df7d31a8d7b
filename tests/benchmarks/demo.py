"""A project with one small recipe, `demo`, whose stages need no model library: what the tests of the harness run."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, reproduce
from benchmarks.judging import tables
from benchmarks.running import recipes, results, runner
from benchmarks.running.recipes import Job, Request
from common.recipe import Arm, Download, Recipe, Scale, Stage

STAGE = """
import json, os, signal, sys
from pathlib import Path

def main(kind=""):
    given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    run, seed = Path(given["--run_dir"]), int(given["--seed_everything"])
    kind = given.get("--model.kind", kind)
    if "--model.weights" in given:
        kind = Path(given["--model.weights"]).read_text()
    with open(run / "trace", "a") as trace:
        trace.write(f"{Path(sys.argv[0]).stem}\\n")
    fault = Path("faults", f"{Path(sys.argv[0]).stem}-{kind}-{seed}")
    if fault.exists():
        print("some output\\n" + fault.read_text(), flush=True)
        if "killed" in fault.read_text():
            os.kill(os.getpid(), signal.SIGKILL)
        sys.exit(2 if "error: " in fault.read_text() else 1)
    if sys.argv[1] == "fit":
        (run / "weights.safetensors").write_text(kind)
    metrics = {"accuracy": {"method": 0.8, "plain": 0.6}.get(kind, 0.1) + 0.01 * seed, "parameters": 1000.0}
    done = {"metrics": metrics if sys.argv[1] == "test" else {}, "cost": {"seconds": 2.0, "flops": 3e12}}
    done |= {"wall_seconds": 4.0, "versions": {"python": "3"}, "hardware": {"cores": 2}, "finished": "2025-01-01"}
    (run / "done.json").write_text(json.dumps(done))
"""
DONE: dict[str, Any] = {
    "metrics": {}, "cost": {"seconds": 2.0, "flops": 3e12}, "wall_seconds": 4.0, "cpu_seconds": 3.0,
    "versions": {"torch": "2"}, "hardware": {"cores": 2}, "finished": "2025-01-01T00:00:00Z",
}  # fmt: skip
"""What a finished stage leaves at the least."""
FILES = {
    "projects/__init__.py": "",
    "projects/demo/__init__.py": "",
    "projects/demo/recipe.py": "",
    "projects/demo/stage.py": STAGE,
    "projects/demo/model.py": "import math\n",
    "projects/demo/train.py": "from projects.demo import model\nfrom projects.demo.stage import main\nmain()\n",
    "projects/demo/evaluate.py": "from .stage import main\nmain('untrained')\n",
    "projects/demo/plot.py": "from projects.demo import stage\n",
    "projects/demo/configs/mini/train.yaml": "data: {class_path: common.data.numbers.Numbers}\n",
    "projects/demo/configs/mini/evaluate.yaml": "{}\n",
    "projects/demo/configs/mini/photos/train.yaml": "data: {size: 3}\n",
    "projects/demo/configs/paper/train.yaml": "model: {size: 100}\n",
    "projects/demo/configs/paper/evaluate.yaml": "{}\n",
    "common/__init__.py": "",
    "common/data/__init__.py": "",
    "common/data/numbers.py": "def late():\n    from common.data import words\n",
    "common/data/words.py": "",
    "common/data/other.py": "",
    "common/foundations/__init__.py": "",
    "common/foundations/teacher.py": "from projects.demo.stage import main\nmain('teacher')\n",
    "common/foundations/configs/mini/teacher.yaml": "{}\n",
    "common/foundations/configs/paper/teacher.yaml": "{}\n",
}
PAGE = """
paper: demo
title: A demonstration
authors: Somebody
year: 2020
arxiv: null
official_code: null
licence: null
modality: numbers
metrics:
  accuracy: {label: Accuracy, better: higher, main: true}
  parameters: {label: Parameters, unit: count, better: lower, exact: true}
  train_seconds: {label: Training time, unit: s, better: lower, decimals: 0}
tables:
  - id: main
    title: Main table
    source: {where: Table 1, read_in: paper}
    columns: [{label: Accuracy, metric: accuracy}]
    rows: [{label: Ours, arm: method, values: [0.9]}, {label: Theirs, arm: plain, values: [null]}]
claims:
  - id: C1
    text: The method is better.
    source: {where: Table 1, read_in: paper}
    scales: [mini, paper]
    better: {arm: method, metric: accuracy}
    worse: {arm: plain, metric: accuracy}
"""


def arms(scale: Scale) -> dict[str, Arm]:
    teacher = Stage("teacher", "common.foundations.teacher", shared=True)

    def train(kind: str) -> Stage:
        return Stage("train", "projects.demo.train", {"model.teacher": teacher.weights, "model.kind": kind})

    def evaluate(**settings: Any) -> Stage:
        return Stage("evaluate", "projects.demo.evaluate", settings, run="test")

    return {
        "method": Arm([evaluate(**{"model.weights": train("method").weights})], "what the paper proposes", method=True),
        "plain": Arm([evaluate(**{"model.weights": train("plain").weights})], "without it"),
        "untrained": Arm([evaluate()], "nothing learned"),
    }


PHOTOS = Download("Photographs", "$DATA_ROOT/photos", "example.org", 1.0, "CC0", "*.jpg")
RECIPE = Recipe("A demonstration", "numbers", arms, data={"photos": PHOTOS})


def make_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the project into `root`, and have the harness take it for its own."""
    for name, content in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (root / "papers").mkdir()
    (root / "papers" / "demo.yaml").write_text(PAGE)
    (root / "faults").mkdir()
    known = recipes.load
    monkeypatch.setattr(recipes, "load", lambda paper: RECIPE if paper == "demo" else known(paper))
    for module in (recipes, reproduce):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(results, "ROOT", root)
    monkeypatch.setattr(results, "RESULTS", root / "results")
    for module in (results, report):
        monkeypatch.setattr(module, "REPORTS", root / "reports")
    monkeypatch.setattr(recipes, "names", lambda: ["demo"])
    monkeypatch.setattr(tables, "PAPERS", root / "papers")
    monkeypatch.setenv("RUNS", str(root / "runs"))
    pool = runner.Pool
    monkeypatch.setattr(runner, "Pool", lambda modules, warm, environment: pool(modules, False, environment))
    monkeypatch.chdir(root)


def finish(job: Job, seconds: float = 2.0, **metrics: float) -> None:
    """Leave what a finished stage leaves."""
    job.run_dir.mkdir(parents=True, exist_ok=True)
    done = DONE | {"metrics": metrics, "cost": {"seconds": seconds, "flops": 3e12}, "wall_seconds": 2 * seconds}
    (job.run_dir / "done.json").write_text(json.dumps(done))


def request(root: Path, **settings: Any) -> Request:
    return Request("demo", **{"runs": root / "runs", **settings})


def ran(root: Path) -> int:
    """How many stages have run so far, again and again included."""
    return sum(len(trace.read_text().splitlines()) for trace in root.glob("runs/**/trace"))
