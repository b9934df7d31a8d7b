"""SEEDS=auto runs more seeds for open claims alone; a planted null finds nothing; an outlook says what is left."""

import json
from pathlib import Path

import pytest

from benchmarks import null, reproduce
from benchmarks.judging.forms import Better, Bound, Measure, Metric, NotWorse, Test
from benchmarks.judging.tables import Claim, Paper, Source
from common.errors import UserError
from tests.benchmarks.demo import ran

NOISE = "(0.8 if kind == 'method' else 0.6) + 0.01 * seed"


def unsteady(project: Path, method: str) -> None:
    """Have the method's accuracy be what an expression of the seed says; the others' is 0.6 + 0.01 seed."""
    stage = project / "projects/demo/stage.py"
    old = '{"method": 0.8, "plain": 0.6}.get(kind, 0.1) + 0.01 * seed'
    assert old in stage.read_text()
    stage.write_text(stage.read_text().replace(old, f"({method}) if kind == 'method' else 0.6 + 0.01 * seed"))


def run(project: Path, *options: str) -> int:
    return reproduce.main(["demo", "--runs", str(project / "runs"), "--jobs", "2", "--seeds", "auto", *options])


def seeds(project: Path) -> dict[str, int]:
    found = json.loads((project / "runs/demo/mini/results.json").read_text())
    return {arm: len(entry["seeds"]) for arm, entry in found["arms"].items()}


def verdict(project: Path) -> dict[str, object]:
    return json.loads((project / "runs/demo/mini/results.json").read_text())["verdicts"][0]


def test_what_is_decided_at_the_first_look_gets_no_more_seeds(project: Path) -> None:
    unsteady(project, "0.8 + 0.01 * seed + 0.001 * (seed % 2)")
    assert run(project) == 0
    assert seeds(project) == {"method": 3, "plain": 3, "untrained": 3}
    assert verdict(project)["status"] == "confirmed" and verdict(project)["look"] == 3


def test_open_claims_get_more_seeds_and_other_arms_do_not(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsteady(project, "0.63 + 0.01 * seed + 0.02 * (seed % 2)")
    assert run(project) == 0
    assert seeds(project) == {"method": 5, "plain": 5, "untrained": 3}
    assert verdict(project)["status"] == "confirmed" and verdict(project)["look"] == 5
    assert "look at 5 seeds: 2 arms of open claims" in capsys.readouterr().out
    before = ran(project)
    assert run(project) == 0 and ran(project) == before and seeds(project)["method"] == 5


@pytest.mark.parametrize(
    ("options", "most", "said"),
    [(["--seeds-max", "5"], 5, "SEEDS_MAX=5"), (["--minutes", "0.001"], 3, "MINUTES=0.001"), ([], 12, "inconclusive")],
)
def test_where_it_stops(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], most: int, said: str
) -> None:
    unsteady(project, "0.6 + 0.01 * seed + 0.1 * (-1) ** seed")
    assert run(project, *options) == 0
    assert seeds(project)["method"] == most and verdict(project)["status"] == "inconclusive"
    assert said in capsys.readouterr().out


def test_a_fixed_run_says_what_auto_would_decide(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsteady(project, "0.63 + 0.01 * seed + 0.02 * (seed % 2)")
    assert reproduce.main(["demo", "--runs", str(project / "runs"), "--jobs", "2"]) == 0
    assert "SEEDS=auto would decide C1 with up to 5 seeds" in " ".join(capsys.readouterr().out.split())


def test_two_copies_of_a_baseline_differ_by_chance_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = project / "projects/demo/stage.py"
    text = stage.read_text().replace("+ 0.01 * seed", "+ 0.01 * ((seed * 7919) % 11)")
    stage.write_text(text)
    assert null.main(["demo", "--runs", str(project / "runs"), "--jobs", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "method is a copy of plain, 3 seeds of each" in shown and "no more than chance brings about" in shown
    assert not (project / "runs/demo/mini/results.json").exists() and ran(project) == 1 + 2 * 2 * 3


def test_two_copies_that_do_differ_are_noticed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = project / "projects/demo/stage.py"
    stage.write_text(
        stage.read_text().replace("+ 0.01 * seed", "+ (0.5 if seed >= 1000 else 0.0) + 0.001 * (seed % 2)")
    )
    code = null.main(["demo", "--runs", str(project / "runs"), "--jobs", "2", "--seeds", "5"])
    assert "wrongly decided" in capsys.readouterr().out
    assert code in (0, 1)  # one comparison is too few to be more than chance


def test_copies_without_any_difference_show_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsteady(project, "0.6")
    stage = project / "projects/demo/stage.py"
    stage.write_text(stage.read_text().replace("0.6 + 0.01 * seed", "0.6"))
    assert null.main(["demo", "--runs", str(project / "runs"), "--jobs", "2"]) == 2
    assert "the two copies have the same figures for every one of 3 seeds" in capsys.readouterr().err


METRICS = {name: Metric(name, name, better=sign) for name, sign in (("accuracy", "higher"), ("error", "lower"))}


def claim(test: Test) -> Claim:
    return Claim("C", "text", Source("Table 1", "paper"), ("mini",), {}, test)


OURS, OTHERS, OLD = (Measure(arm, "accuracy") for arm in ("method", "plain", "old"))


@pytest.mark.parametrize(
    ("tests", "baseline"),
    [
        ((Better(OURS, OTHERS), NotWorse(OURS, OLD, 0.1)), "old"),  # the better one of two, in whatever form
        ((Better(OURS, Measure("method", "error")), Better(OLD, OURS), Better(OTHERS, OLD)), "old"),
        ((Better(OLD, OTHERS), Better(OURS, Measure("once", "accuracy"))), "plain"),  # none of the method: of another
    ],
)
def test_the_baseline_of_a_null_is_another_arm_than_the_method(tests: tuple[Test, ...], baseline: str) -> None:
    page = Paper("p", "t", "t", "a", 2020, None, None, None, "m", "", METRICS, (), tuple(map(claim, tests)))
    known = {"arms": {arm: {"seeds": {"0": {"accuracy": v}}} for arm, v in (("plain", 0.5), ("old", 0.6))}}
    assert null.strongest_baseline(page, "method", "mini", known, ("method", "plain", "old")) == baseline


def test_a_page_without_a_comparison_has_no_null() -> None:
    page = Paper("p", "t", "t", "a", 2020, None, None, None, "m", "", METRICS, (), (claim(Bound(OURS, above=0.5)),))
    with pytest.raises(UserError, match="p claims nowhere at mini scale"):
        null.strongest_baseline(page, "method", "mini", {"arms": {}}, ("method", "plain"))
