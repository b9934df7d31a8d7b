"""What `make reproduce` leaves in a checkout, however it ends: nothing that version control or a test sees."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT
from scripts.make import COMMANDS

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "runs", "reports", "build", "dist", "*.egg-info")
SMALL = {"PAPER": "jepa_linear", "ARMS": "jepa_average", "SEEDS": "1", "JOBS": "1"}
"""An arm of one training and one evaluation, which need no data and nothing that was trained before."""
FEW_STEPS = "--trainer.max_steps 2"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is here, in a repository of its own with everything committed."""
    root = tmp_path_factory.mktemp("fresh") / "checkout"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    shutil.copy(ROOT / ".gitignore", root)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def begun(checkout: Path, **variables: str) -> subprocess.Popen[str]:
    """`make reproduce`: the command behind the target, with runs where a user has them."""
    own = {*COMMANDS["reproduce"].options.values(), *COMMANDS["reproduce"].flags.values()}
    environment = {name: value for name, value in os.environ.items() if name not in own} | SMALL | variables
    command = [sys.executable, "-m", "scripts.make", "reproduce"]
    return subprocess.Popen(command, cwd=checkout, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def finished(checkout: Path) -> bool:
    ran = begun(checkout, ARGS=FEW_STEPS)
    said = ran.communicate()[0]
    assert ran.returncode == 0, said
    return (checkout / "runs/jepa_linear/mini/results.json").exists()


def killed(checkout: Path) -> bool:
    """As it ends when the machine goes down in the middle of the training."""
    ran = begun(checkout)
    while ran.poll() is None and not list(checkout.glob("runs/jepa_linear/mini/average-*/seed0/config.yaml")):
        time.sleep(0.1)
    ran.send_signal(signal.SIGKILL)
    ran.communicate()
    return ran.returncode == -signal.SIGKILL


def failed(checkout: Path) -> bool:
    ran = begun(checkout, ARGS="--trainer.accelerator abacus")
    said = ran.communicate()[0]
    return ran.returncode != 0 and "failed" in said and "abacus" in said


def other_settings(checkout: Path) -> bool:
    ran = begun(checkout, ARGS="--trainer.max_steps 3", SEEDS="100-100")
    said = ran.communicate()[0]
    assert ran.returncode == 0, said
    return "pilot" in said


@pytest.mark.parametrize("state", [killed, failed, other_settings, finished], ids=lambda state: state.__name__)
def test_git_and_the_tables_see_nothing_of_a_run(state: Callable[[Path], bool], checkout: Path) -> None:
    assert state(checkout)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True)
    assert status.stdout == ""
    command = [sys.executable, "-m", "pytest", "-qp", "no:xdist", "tests/scripts/test_readme_tables.py"]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
