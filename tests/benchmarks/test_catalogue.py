"""The list of recipes: quick, complete, and not stopped by one that is broken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import catalogue
from benchmarks.running import recipes, results
from tests.benchmarks.demo import RECIPE


@pytest.fixture(autouse=True)
def only_demo(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration project's recipe is the only one."""
    (project / "results").mkdir()
    monkeypatch.setattr(results, "judged", lambda found, paper: found)


def write(project: Path, label: str, *statuses: str) -> Path:
    file = project / "results" / f"demo.{label}.json"
    scale, _, data = label.partition("-")
    content: dict[str, Any] = {"paper": "demo", "scale": scale, "data": data or "default", "created": "", "command": ""}
    content |= {"versions": {}, "hardware": {}, "stage_seconds": 1.0, "arms": {}}
    nothing = {"reason": "", **dict.fromkeys(("estimate", "low", "high"))}
    verdicts = [{"claim": f"C{number}", "status": status, **nothing} for number, status in enumerate(statuses)]
    file.write_text(json.dumps({**content, "verdicts": verdicts}))
    return file


def shown(capsys: pytest.CaptureFixture[str], code: int = 0) -> list[list[str]]:
    """Cells of the list, row by row."""
    assert catalogue.main() == code
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_a_recipe_that_has_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == [
        ["recipe", "modality", "claims, by scale: the reference's verdicts, and yours"],
        ["demo", "numbers", "not run yet"],
    ]


def test_verdicts_by_scale(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, "mini", "confirmed", "untested", "refuted", "confirmed", "inconclusive")
    write(project, "mini-photos", "untested")
    (project / "reports").mkdir()
    (project / "reports/demo.rehearsal.html").touch()
    assert shown(capsys)[1:] == [
        ["demo", "numbers", "rehearsal: ran; it tests no claim"],
        ["mini: 2 confirmed, 1 refuted, 1 inconclusive"],
        ["mini-photos: none"],
    ]


@pytest.mark.parametrize(
    ("yours", "expected"),
    [
        (("confirmed", "refuted"), [["demo", "numbers", "mini: 1 confirmed, 1 refuted; yours agree"]]),
        (
            ("refuted", "confirmed"),
            [["demo", "numbers", "mini: 1 confirmed, 1 refuted"], ["mini, yours: 1 confirmed, 1 refuted (2 differ)"]],
        ),
    ],
)
def test_yours_have_a_line_of_their_own_where_a_verdict_differs(
    yours: tuple[str, ...],
    expected: list[list[str]],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = project / "own/demo/mini/results.json"
    own.parent.mkdir(parents=True)
    write(project, "mini", *yours).rename(own)
    write(project, "mini", "confirmed", "refuted")
    monkeypatch.setenv("RUNS", str(project / "own"))
    assert shown(capsys)[1:] == expected


def test_a_broken_recipe_is_named_and_the_others_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> object:
        if name == "broken":
            raise SyntaxError("a bracket is missing")
        return RECIPE

    monkeypatch.setattr(recipes, "names", lambda: ["broken", "demo"])
    monkeypatch.setattr(recipes, "load", load)
    assert catalogue.main() == 2
    output = capsys.readouterr()
    assert "broken, see below" in output.out and "numbers" in output.out
    assert output.err == "error: projects/broken/recipe.py: SyntaxError: a bracket is missing\n"


@pytest.mark.parametrize(("content", "said"), [("{", "Invalid JSON"), ('{"arms": 3}', "paper: Field required")])
def test_a_broken_results_file_is_named_and_the_others_are_listed(
    project: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    write(project, "mini", "confirmed")
    (project / "results/demo.paper.json").write_text(content)
    assert catalogue.main() == 2
    output = capsys.readouterr()
    assert "mini: 1 confirmed" in output.out
    assert "demo.paper.json" in output.err and said in output.err and "git checkout" in output.err


@pytest.mark.parametrize("module", ["benchmarks.catalogue", "benchmarks.reproduce"])
def test_the_list_and_a_second_run_wait_for_no_model_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'lightning', 'scipy', 'transformers'}} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
