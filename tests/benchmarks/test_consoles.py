"""Commands print on consoles of any encoding, words as they are, and write UTF-8 whatever the console is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from benchmarks import null, plan, reproduce, speed, status
from benchmarks.running.recipes import ROOT
from common.console import table_console
from scripts import accept, wandb_report
from tests.benchmarks.leftovers import CODES

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""An environment in which Python takes files and consoles for ASCII, as it takes them for Latin-1 with LC_ALL=de_DE."""


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, "plain"),
        (ASCII, "plain"),
        ({"PYTHONIOENCODING": "utf-8"}, "[red] [/] [bold] :key: \u00fc \u2192"),
    ],
    ids=["latin-1", "ascii", "markup"],
)
def test_all_commands_print_and_write(tmp_path: Path, environment: dict[str, str], name: str) -> None:
    root = tmp_path / name
    command = [sys.executable, "-m", "tests.benchmarks.leftovers", str(root)]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True)
    out = ended.stdout.decode("latin-1" if name == "plain" else "utf-8")
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-3000:]
    assert json.loads(out.splitlines()[-1]) == CODES
    assert f"{root}/reports/demo.mini.html" in out
    page = (root / "reports" / "demo.mini.html").read_text(encoding="utf-8")
    assert "\u00b1" in page and "\u00b1" in (root / "projects/demo/README.md").read_text(encoding="utf-8")


def test_words_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table_console(80).print("[red] :key: [/]", Text("[/x]"))
    assert capsys.readouterr().out == "[red] :key: [/] [/x]\n"


@pytest.mark.parametrize("module", [reproduce, plan, speed, null, status, accept, wandb_report])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x00", "\u2028"])
def test_control_characters_are_refused(module: object, character: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main([f"mobile{character}sam"]) == 2  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert "--paper holds a line break or another control character" in said and character not in said[:-1]


@pytest.mark.parametrize("option", ["--runs", "--args", "--sbatch-args", "--time", "--arms", "--data", "--data-root"])
def test_in_every_option(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["mobilesam", f"{option}=a\nb"]) == 2
    assert f"{option} holds a line break" in capsys.readouterr().err
