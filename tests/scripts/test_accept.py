"""`make accept`: what may become the reference, and what may not."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import reproduce
from benchmarks.running import results
from common.errors import UserError
from scripts import accept
from tests.benchmarks.demo import make_project, request


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demonstration project in a repository of its own, with everything committed."""
    make_project(tmp_path, monkeypatch)
    monkeypatch.setattr(accept, "ROOT", tmp_path)
    (tmp_path / ".gitignore").write_text("runs/\nreports/\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
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
