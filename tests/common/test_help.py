"""A stage's help comes at once the second time, and anew where it may have changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import help
from common.paths import PROJECT

COMMAND = ["python", "-m", "common.foundations.masked_lm", "fit", "--help"]


def test_second_help_is_the_first_without_its_imports(tmp_path: Path) -> None:
    environment = os.environ | {"RUNS": str(tmp_path)}

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, *flags, *COMMAND[1:]]
        return subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)

    first, second = run(), run("-X", "importtime")
    assert "--model." in first.stdout
    assert second.stdout == first.stdout
    assert "common.help" in second.stderr and "torch" not in second.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["python", "-m", "pytest", "--help"],
        ["python", "-m", "projects.mcm.distill", "fit"],
        ["python", "-m", "projects.mcm.distill", "fit", "--help", "--config", "a.yaml"],
        ["python", "projects/mcm/distill.py", "--help"],
    ],
)
def test_other_commands_are_not_answered(command: list[str]) -> None:
    assert help.asked(command) is None
    help.answer(command)


def test_changed_text_has_another_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.setattr(help, "PROJECT", tmp_path)
    script = tmp_path / "projects" / "x" / "train.py"
    script.parent.mkdir(parents=True)
    script.write_text("", encoding="utf-8")
    module, words = help.asked(["python", "-m", "projects.x.train", "fit", "-h"]) or ("", [])
    before = help.place(module, words)
    assert help.place(module, words) == before
    assert help.place(module, ["validate", "-h"]) != before
    monkeypatch.setenv("COLUMNS", "200")
    wide = help.place(module, words)
    assert wide != before
    os.utime(script, ns=(1, 1))
    assert help.place(module, words) not in (before, wide)


def test_help_that_fails_is_not_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path))
    for code in (2, 0):
        with pytest.raises(SystemExit), help.remember(COMMAND):
            print("said")
            raise SystemExit(code)
        assert len(list(tmp_path.glob("help/*.txt"))) == (code == 0)
    with pytest.raises(SystemExit):
        help.answer(COMMAND)


def test_unwritable_runs_folder_costs_only_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("RUNS", str(tmp_path / "file"))
    with pytest.raises(SystemExit), help.remember(COMMAND):
        print("said")
        raise SystemExit(0)
    assert capsys.readouterr().out == "said\n"
