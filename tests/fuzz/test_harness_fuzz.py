"""Damaged files of the harness end in a sentence, or count as not there: no traceback, no hang, nothing half believed.

`FUZZ=20` tries twenty times as many.
"""

import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks import catalogue, report, reproduce, status
from benchmarks.running import launch, recipes, results
from common.errors import UserError
from common.training.runs import read_done, save_axis, save_picture
from common.training.weights import load_state, load_weights
from scripts import accept, readme_tables, wandb_report
from tests.benchmarks.demo import arms, finish, make_project, request
from tests.fuzz.damage import changes, replaced
from tests.fuzz.test_readers_fuzz import SECONDS, Hang, limited

INPUTS = 24 * int(os.environ.get("FUZZ", "1"))  # of each kind of file
EAGER = {"median_ms": 1.0, "p95_ms": 2.0, "calls": 3, "peak_bytes": 10}
NETWORK = {"flops": 1, "against": "net", "reported": {"ms": 1}, "source": "T1", "params": 3, "ratios": {"ms": 1.0},
           "variants": {"eager": EAGER, "fast": {"error": "no"}}}  # fmt: skip
SPEED = {"paper": "demo", "networks": {"found": {"net": NETWORK}}, "sources": {"found": {"a": {"median_ms": 1}}}}


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
    for file in (project / "runs/demo/speed/cpu.json", project / "results/speed/demo.cpu.json"):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(SPEED))


QUEUE = {
    ("7", "1"): launch.Queued("FAILED", "NonZeroExitCode", "1:00", "n1"),
    ("7", "2"): launch.Queued("RUNNING", "", "1:00", "n1"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, monkeypatch)
    (tmp_path / "projects/demo/README.md").write_text("<!-- measured mini: accuracy -->\n<!-- /measured -->\n")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(accept, "uncommitted", lambda paper: [])
    monkeypatch.setattr(accept, "ROOT", tmp_path)
    monkeypatch.setattr(readme_tables, "README", tmp_path / "README.md")
    readme_tables.README.write_text(readme_tables.BEGIN + readme_tables.END)
    monkeypatch.setattr(launch, "squeue", lambda: QUEUE)
    fill(tmp_path)
    return tmp_path


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
    ]


def damaged(files: list[Path], rng: random.Random) -> str:
    """Damage one of the files; says which and how."""
    kind = rng.choice(sorted({path.suffix for path in files}))
    path = rng.choice([path for path in files if path.suffix == kind])
    if rng.random() < 0.1:
        if rng.random() < 0.3:  # a file in the place of its folder
            shutil.rmtree(path.parent)
            path.parent.write_text("a file")
            return f"{path.name}: its folder is a file"
        return f"{path.name}: {replaced(path, rng)}"
    what, change = rng.choice(changes(path.name))
    path.write_bytes(change(path.read_bytes(), rng))
    return f"{path.name}: {what}"


KINDS = {
    "results": ["runs/demo/mini/results.json", "results/demo.mini.json"],
    "run folders": [f"runs/demo/mini/*/*/{name}" for name in ("*.*", "curves/*/*", "pictures/*", "wandb/*/*")],
    "jobs and speed": ["runs/demo/mini/slurm/jobs.json", "runs/demo/speed/*", "results/speed/*"],
}


def files_of(project: Path, kind: str) -> list[Path]:
    found = (path for pattern in KINDS[kind] for path in project.glob(pattern))
    return sorted({path for path in found if path.is_file()})


def tried(function: Callable[[], Any]) -> str:
    """What must not be: a traceback, or no end; empty otherwise."""
    try:
        with limited(SECONDS):
            function()
    except UserError:
        return ""
    except Hang:
        return "hang"
    except Exception as error:
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
        return f"traceback: {type(error).__name__}: {error!s:.200} ({where})"
    return ""


def test_whole_files_are_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [command() for command in commands(project)]
    said = capsys.readouterr()
    assert codes == [0, 0, 0, 0, 0, 0, 2, 0] and "2 seeds, 3 are needed" in said.err, said.err
    assert "step 3 of 10" in said.out and results.networks("demo")["net"] == {"params": 3, "flops": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_a_run_are_named_or_count_as_not_there(
    kind: str, project: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    for part in ("runs", "results"):
        shutil.copytree(project / part, whole / part)
    bad = []
    for seed in range(INPUTS):
        rng = random.Random(f"{kind} {seed}")
        for part in ("runs", "results", "reports"):
            shutil.rmtree(project / part, ignore_errors=True)
            (project / part).unlink(missing_ok=True)
            if part != "reports":
                shutil.copytree(whole / part, project / part)
        files = files_of(project, kind)
        what = damaged(files, rng)
        for path in files:
            if path.name == "done.json" and (done := read_done(path.parent)) is not None:
                figures = done["metrics"].values()
                assert all(isinstance(value, int | float) and not isinstance(value, bool) for value in figures)
        all_of_them = commands(project)
        some = all_of_them if os.environ.get("FUZZ") else rng.sample(all_of_them, 3)
        for command in some:
            if problem := tried(command):
                bad.append(f"{seed}: {what}: {problem}")
    capsys.readouterr()
    assert not bad, f"{len(bad)} of {INPUTS}:\n" + "\n".join(bad)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_damaged_weights_are_refused_or_whole(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, file, content = Net(), tmp_path / f"weights.{suffix}", io.BytesIO()
    if suffix == "safetensors":
        save_file(net.state_dict(), file)
    else:
        torch.save({"state_dict": net.state_dict()}, content)
        file.write_bytes(content.getvalue())
    whole, bad = file.read_bytes(), []
    assert load_state(file).keys() == net.state_dict().keys()
    for seed in range(3 * INPUTS):
        rng = random.Random(f"{suffix} {seed}")
        file.unlink(missing_ok=True) if not file.is_dir() else file.rmdir()
        file.write_bytes(whole)
        if rng.random() < 0.05:
            what = replaced(file, rng)
        else:
            what, change = rng.choice(changes(file.name))
            file.write_bytes(change(whole, rng))
        target = Net()
        if problem := tried(lambda target=target: load_weights(target, file)):
            bad.append(f"{seed}: {what}: {problem}")
        elif not all(torch.isfinite(value.float()).all() for value in target.state_dict().values()):
            bad.append(f"{seed}: {what}: not finite")
    assert not bad, f"{len(bad)}:\n" + "\n".join(bad)
