"""Damaged files of the harness end in a sentence, or count as not there: no traceback, no hang, nothing half believed.

`FUZZ=20` tries twenty times as many.
"""

import io
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import plan
from benchmarks.planning import records, stages
from benchmarks.running import results
from benchmarks.running.recipes import Stage
from common.errors import UserError
from common.training.runs import read_done
from common.training.weights import load_state, load_weights
from tests.benchmarks.leftovers import CODES, commands, make
from tests.fuzz.damage import changes, replaced
from tests.fuzz.test_readers_fuzz import SECONDS, Hang, limited

INPUTS = 24 * int(os.environ.get("FUZZ", "1"))  # of each kind of file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make(tmp_path, monkeypatch)
    return tmp_path


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
    assert codes == CODES and "2 seeds, 3 are needed" in said.err, said.err
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


def test_damaged_plans_are_counted_anew_or_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, file = records.path("sinkd"), tmp_path / "sinkd.json"
    now = records.read(whole)
    assert now is not None
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(records, "present", lambda hook: replace(now, stages=()))
    asked: list[bool] = []

    def known_or_any(paper: str, stage: Stage, config: dict[str, Any], known: records.Costs) -> records.Counted:
        """In the place of counting, which takes long: what the undamaged record has first."""
        same = [counted for counted in known.known if counted.stage == stage.name]
        asked.append(not same)
        return (same or now.stages)[0]

    monkeypatch.setattr(stages, "cost_of", known_or_any)
    bad = []
    for seed in range(INPUTS):
        rng = random.Random(f"plans {seed}")
        what, change = rng.choice(changes("sinkd.json"))
        file.write_bytes(change(whole.read_bytes(), rng))
        if problem := tried(lambda: plan.main(["sinkd", "--runs", str(tmp_path / "runs")])):
            bad.append(f"{seed}: {what}: {problem}")
    assert not bad, f"{len(bad)} of {INPUTS}:\n" + "\n".join(bad)
    assert len(set(asked)) == 2, "some files are still read, and some are not"
