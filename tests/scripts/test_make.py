"""What a user says to make reaches the commands as it was said, and no shell or make reads it."""

import os
import subprocess
from pathlib import Path

import pytest

from common.errors import UserError
from scripts import make

ROOT = Path(make.__file__).parents[1]


def said(*words: str, folder: Path) -> list[str]:
    """The arguments with which a target's command starts: the interpreter is replaced by one that prints them."""
    spy = folder / "venv/bin/python"
    spy.parent.mkdir(parents=True)
    spy.write_text('#!/bin/sh\nenv -0 > "$SPY"\n')
    spy.chmod(0o755)
    (folder / "venv/installed").touch()
    os.utime(folder / "venv/installed", (4e9, 4e9))
    environment = {"PATH": os.environ["PATH"], "SPY": str(folder / "spy")}
    ended = subprocess.run(
        ["make", f"VENV={folder / 'venv'}", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    variables = dict(line.split("=", 1) for line in (folder / "spy").read_text().split("\0") if "=" in line)
    return make.command_line(words[0], variables)


@pytest.mark.parametrize("variable", ["PAPER", "ARGS", "DATA_ROOT", "SBATCH_ARGS", "RUNS"])
def test_nothing_in_a_variable_is_executed_or_lost(tmp_path: Path, variable: str) -> None:
    trap = tmp_path / "executed"
    for number, value in enumerate(
        [
            f"$(touch {trap})",
            f"$$(touch {trap})",
            f"$(shell touch {trap})",
            f"`touch {trap}`",
            f'";touch {trap};"',
            "a 'b c' \"d\" $HOME \\ #",
        ]
    ):
        words = said(
            "reproduce",
            *(["PAPER=x"] if variable != "PAPER" else []),
            f"{variable}={value}",
            folder=tmp_path / str(number),
        )
        assert any(word.endswith(value) for word in words), (value, words)
    assert not trap.exists()


def test_the_words_of_a_target() -> None:
    variables = {"PAPER": "sit", "SEEDS": "auto", "ARMS": "", "DRY_RUN": "1", "ARGS": "--model.x 'a b'"}
    expected = ["benchmarks.reproduce", "sit", "--seeds=auto", "--args=--model.x 'a b'", "--dry-run"]
    assert make.command_line("reproduce", variables) == expected
    assert make.command_line("rehearse", {"PAPER": "sit"}) == ["benchmarks.reproduce", "sit", "--scale", "rehearsal"]
    assert make.command_line("list", {"PAPER": "sit"}) == ["benchmarks.catalogue"]
    assert make.command_line("report", {}) == ["benchmarks.report"]
    for off in ("", "0", "no", "False", "off"):
        assert make.command_line("rehearse", {"PAPER": "sit", "FORCE": off})[-1] == "rehearsal"
    assert make.command_line("rehearse", {"PAPER": "sit", "FORCE": "yes"})[2] == "--force"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "say which paper: make reproduce PAPER=mobilesam"),
        ({"PAPER": "x\ny"}, "PAPER holds a line break"),
        ({"PAPER": "x", "TIME": "1\n#SBATCH --wrap=ls"}, "TIME holds a line break"),
    ],
)
def test_what_cannot_be_meant_is_refused(variables: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make.command_line("reproduce", variables)


def test_one_recipes_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sit", "sit_v2"):
        (tmp_path / "projects" / name).mkdir(parents=True)
        (tmp_path / "projects" / name / "recipe.py").touch()
    tests = tmp_path / "tests" / "projects"
    tests.mkdir(parents=True)
    for name in ("test_sit.py", "test_sit_model.py", "test_sit_v2.py", "test_sit_v2_model.py", "test_sitting.py"):
        (tests / name).touch()
    monkeypatch.setattr(make, "TESTS", tests)
    assert [Path(file).name for file in make.tests_of("sit")] == ["test_sit.py", "test_sit_model.py"]
    assert [Path(file).name for file in make.tests_of("sit_v2")] == ["test_sit_v2.py", "test_sit_v2_model.py"]
    with pytest.raises(UserError, match="did you mean sit"):
        make.tests_of("sits")


def test_every_target_that_help_names_exists() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = {line.split()[1] for line in shown.splitlines() if line.startswith("make ")}
    ours = {"setup", "fuzz", "test", "test-slurm", "lint", "clean"}
    assert targets == {*make.COMMANDS, *ours}
