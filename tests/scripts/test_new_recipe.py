"""`make new`: what it writes runs as it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from scripts.new_recipe import ROOT, create, main


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's source, without recipes."""
    left_out = shutil.ignore_patterns("__pycache__", "results", "rehearsals", "test_*.py")
    for folder in ("common", "benchmarks", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    (tmp_path / "projects").mkdir()
    shutil.copy(ROOT / "projects/__init__.py", tmp_path / "projects")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


BOTH = """
import sys, pytest
from benchmarks import reproduce
from tests.projects.test_my_paper_rehearsal import rehearse  # what the tests need is imported once for both
code = pytest.main(["-p", "no:xdist", "--rehearse", "all", "tests/projects"])
sys.exit(code or reproduce.main(["my_paper", "--seeds", "1", "--arms", "labels"]))
"""
"""The recipe's tests, its rehearsal among them, and a run of one of its arms, in one process."""


def test_a_new_recipe_passes_its_tests_is_rehearsed_and_runs(project):
    files = create("my_paper", project)
    assert "__paper__" not in "".join(file.read_text() for file in files)
    folders = {file.parent.name for file in files}
    assert {"harness", "tools"} <= folders
    assert "Begin in [train.py]" in "".join((project / "projects/my_paper/README.md").read_text().split("\n")[:6])
    config = project / "projects/my_paper/configs/mini/student.yaml"  # two steps are enough here
    config.write_text(config.read_text().replace("max_steps: 150", "max_steps: 2").replace("val: 50", "val: 1"))
    environment = os.environ | {"RUNS": str(project / "runs")}
    ran = subprocess.run([sys.executable, "-c", BOTH], cwd=project, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads((project / "runs/my_paper/mini/results.json").read_text())
    assert set(results["arms"]) == {"labels"}
    assert (project / "reports/my_paper.mini.html").exists()
    assert not (project / "benchmarks/rehearsals").exists()  # tests leave no certificate


def test_nothing_is_overwritten(tmp_path):
    create("my_paper", tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="exists already"):
        create("my_paper", tmp_path)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["", "My", "a-b", "../x", "3d", "class"])
def test_bad_names_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="cannot name a recipe"):
        create(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_it_is_used(capsys):
    assert main([]) == 2 and "make new" in capsys.readouterr().err
