"""`make new`: what it writes runs as it is."""

import json
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
    for folder in ("common", "benchmarks", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    (tmp_path / "projects").mkdir()
    shutil.copy(ROOT / "projects/__init__.py", tmp_path / "projects")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=project, capture_output=True, text=True)


def test_a_new_recipe_runs_and_passes_its_test(project):
    files = create("my_paper", project)
    assert "__paper__" not in "".join(file.read_text() for file in files)
    tested = run(project, "pytest", "-p", "no:xdist", "tests/projects/test_my_paper.py")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    for config in (project / "projects/my_paper/configs/mini").glob("*er.yaml"):  # teacher and student, for two steps
        config.write_text(config.read_text().replace("max_steps: 150", "max_steps: 2").replace("val: 50", "val: 1"))
    ran = run(project, "benchmarks.reproduce", "my_paper", "--seeds", "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads((project / "benchmarks/results/my_paper.mini.json").read_text())
    assert set(results["arms"]) == {"teacher", "labels", "distilled"}
    assert (project / "reports/my_paper.mini.html").exists()


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
