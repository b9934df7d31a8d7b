"""`make accept`: what may become the reference, and what may not."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reproduce
from benchmarks.running import results
from common.errors import UserError
from scripts import accept
from tests.benchmarks.demo import make_project, request
from tests.repository import commit_all


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demonstration project in a repository of its own, with everything committed."""
    make_project(tmp_path, monkeypatch)
    monkeypatch.setattr(accept, "ROOT", tmp_path)
    (tmp_path / ".gitignore").write_text("runs/\nreports/\n__pycache__/\n")
    commit_all(tmp_path)
    return tmp_path


def reproduced(project: Path, *options: str) -> None:
    assert reproduce.main(["demo", "--runs", str(project / "runs"), "--jobs", "2", *options]) == 0


def test_what_was_measured_becomes_the_reference(project: Path) -> None:
    reproduced(project)
    file = accept.accept(request(project))
    assert file == project / "results/demo.mini.json"
    found = results.read(file)
    assert found is not None and [verdict["status"] for verdict in found["verdicts"]] == ["confirmed"]
    assert str(project) not in file.read_text()


def test_nothing_measured(project: Path) -> None:
    with pytest.raises(UserError, match="nothing was measured yet"):
        accept.accept(request(project))


@pytest.mark.parametrize(
    ("options", "spoil", "said"),
    [
        ([], "projects/demo/model.py", r"not committed: projects/demo/model.py.*measured with other code"),
        (["--arms", "plain"], "", "arms without results: method, untrained"),
        (["--seeds", "2"], "", "plain: 2 seeds, 3 are needed"),
        (["--args=--model.size 3"], "", "plain: measured with other code, configs, data or settings"),
    ],
)
def test_what_is_refused(project: Path, options: list[str], spoil: str, said: str) -> None:
    reproduced(project, *options)
    if spoil:
        (project / spoil).write_text("import os\n")
    from benchmarks.running import recipes

    recipes._imports.cache_clear()
    with pytest.raises(UserError, match=f"(?s){said}"):
        accept.accept(request(project))
    assert not (project / "results").exists()


def test_a_pilot_is_never_a_reference(project: Path) -> None:
    reproduced(project, "--seeds", "100-102")
    with pytest.raises(UserError, match="nothing was measured yet"):
        accept.accept(request(project))


@pytest.mark.parametrize(
    ("options", "fault"),
    [([], ""), ([], "killed"), ([], "error: no"), (["--args=--model.size 3"], ""), (["--seeds", "100-101"], "")],
    ids=["finished", "killed", "failed", "other settings", "a pilot"],
)
def test_a_run_in_any_state_leaves_the_checkout_as_it_was(project: Path, options: list[str], fault: str) -> None:
    def status() -> str:
        return subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True).stdout

    (project / "faults").mkdir(exist_ok=True)
    if fault:
        (project / "faults/train-plain-0").write_text(fault)
    before = status()
    code = reproduce.main(["demo", "--runs", str(project / "runs"), "--jobs", "2", "--seeds", "1", *options])
    assert (code == 0) == (not fault) and status() == before


def test_code_that_computes_the_same_keeps_the_reference(project: Path) -> None:
    from benchmarks.running import recipes

    reproduced(project, "--seeds", "1")
    with pytest.raises(UserError, match="with which figures could be the same"):
        accept.accept_same(request(project))
    reproduced(project)
    before = results.read(accept.accept(request(project)))
    code = project / "projects/demo/model.py"
    code.write_text(code.read_text() + "\n# no more than a remark\n")
    commit_all(project)
    recipes._imports.cache_clear()
    with pytest.raises(UserError, match="plain: measured with other code"):  # the old run does not stand for it
        accept.accept_same(request(project))
    reproduced(project, "--seeds", "1")
    now = results.read(accept.accept_same(request(project)))
    assert before is not None and now is not None and now["same_seeds"] == [0]
    assert {name: arm["seeds"] for name, arm in now["arms"].items()} == {
        name: arm["seeds"]
        for name, arm in before["arms"].items()  # all three
    }
    assert accept.differences(request(project), now) == []


def measured() -> dict[str, Any]:
    """Results of two arms of a real page."""
    figures = {"miou_teacher_point": 0.5, "encoder_ms": 3.0, "train_seconds": 9.0}
    arms = {
        name: {"stages": [{}], "seeds": {"0": dict(figures), "1": dict(figures)}} for name in ("coupled", "decoupled")
    }
    return {"paper": "mobilesam", "hardware": {"cpu": "one"}, "arms": arms}


def spoil(content: dict[str, Any], arm: str = "coupled", seed: str = "0", **figures: float) -> None:
    content["arms"][arm]["seeds"][seed] |= figures


OTHER_STAGES = ["coupled: not measured in both, or in other stages"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda now: None, []),
        (lambda now: spoil(now, encoder_ms=4.0, train_seconds=1.0), []),
        (lambda now: now["arms"]["coupled"]["seeds"].pop("1"), []),
        (lambda now: spoil(now, miou_teacher_point=0.51), ["coupled, seed 0: other figures of miou_teacher_point"]),
        (lambda now: spoil(now, more=1.0), ["coupled, seed 0: other figures of more"]),
        (lambda now: now["arms"]["coupled"]["seeds"].clear(), ["coupled: no seed in common"]),
        (lambda now: now["arms"].pop("coupled"), OTHER_STAGES),
        (lambda now: now["arms"]["coupled"]["stages"].append({}), OTHER_STAGES),
        (
            lambda now: now["hardware"].update(cpu="two"),
            ["measured on another machine than the reference, where last bits may differ"],
        ),
    ],
)
def test_what_counts_as_the_same(change: Callable[[dict[str, Any]], object], said: list[str]) -> None:
    now = measured()
    change(now)
    assert accept.changes(measured(), now) == said
