"""What `make reproduce` leaves in a checkout, however it ends: nothing that version control or a README's test sees."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT
from scripts.make import COMMANDS
from tests.repository import commit_all

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "runs", "reports", "build", "dist", "*.egg-info")
RUNS = """
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from benchmarks import reproduce
from scripts import readme_tables

# an arm of one training and one evaluation, which need no data and nothing that was trained before
ONE = ["jepa_linear", "--arms", "jepa_average", "--jobs", "1"]
FEW = "--args=--trainer.max_steps {}"

def clean(state):
    assert readme_tables.main() == 0  # it writes the tables anew, as they are
    seen = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True).stdout
    assert seen == "", f"{state}: {seen}"

harness = os.fork()
if not harness:
    os._exit(reproduce.main([*ONE, "--seeds", "1"]))
while not list(Path("runs/jepa_linear/mini").glob("average-*/seed0/config.yaml")):
    assert os.waitpid(harness, os.WNOHANG) == (0, 0)
    time.sleep(0.1)
os.kill(harness, signal.SIGKILL)
os.waitpid(harness, 0)
clean("killed")
assert reproduce.main([*ONE, "--seeds", "1", "--args=--trainer.accelerator abacus"]) == 2
clean("failed")
assert reproduce.main([*ONE, "--seeds", "100-100", FEW.format(3)]) == 0
clean("a pilot with other settings")
assert reproduce.main([*ONE, "--seeds", "1", FEW.format(2)]) == 0
assert Path("runs/jepa_linear/mini/results.json").exists() and list(Path("reports").glob("jepa_linear*.html"))
clean("finished")
sys.exit(pytest.main(["-qp", "no:xdist", "tests/scripts/test_readme_tables.py"]))
"""
"""All of it in one process, so that what stages need is imported once."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project as it is here, in a repository of its own with everything committed."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    shutil.copy(ROOT / ".gitignore", root)
    commit_all(root)
    return root


def test_git_and_the_readmes_see_nothing_of_a_run(checkout: Path) -> None:
    given = {*COMMANDS["reproduce"].options.values(), *COMMANDS["reproduce"].flags.values()}
    environment = {name: value for name, value in os.environ.items() if name not in given}
    ran = subprocess.run([sys.executable, "-c", RUNS], cwd=checkout, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
