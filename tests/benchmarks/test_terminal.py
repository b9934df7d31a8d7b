"""What is printed after a run: measured beside reported figures, the best of each column, verdicts with reasons."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.judging.tables import Metric, Paper, load_paper
from benchmarks.showing.terminal import print_results, seed_note
from tests.benchmarks.demo import PAGE


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    (tmp_path / "demo.yaml").write_text(PAGE)
    return load_paper("demo", ["method", "plain", "untrained"], tmp_path)


def results(verdicts: tuple[dict[str, str], ...] = (), scale: str = "mini", **arms: list[float]) -> dict[str, Any]:
    """A results file's content with an accuracy per seed of each arm."""
    entries = {
        arm: {
            "method": arm == "method",
            "seeds": {str(k): {"accuracy": v, "parameters": 5e6} for k, v in enumerate(values)},
        }
        for arm, values in arms.items()
    }
    return {"scale": scale, "data": "default", "arms": entries, "verdicts": [*verdicts]}


def shown(found: dict[str, Any], paper: Paper, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_results(found, paper, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text


def row(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(start)).split()


def test_mean_spread_and_what_the_paper_reports(paper: Paper) -> None:
    text = shown(results(method=[0.7, 0.8, 0.9], plain=[0.5, 0.5, 0.5], untrained=[0.1, 0.1, 0.1]), paper)
    assert "A demonstration at mini scale: mean ± sample standard deviation over 3 seeds" in text
    assert row(text, "method") == ["method", "0.800", "±", "0.100", "*"]
    assert row(text, "plain") == ["plain", "0.500"]
    reported = [line.split() for line in text.splitlines() if line.startswith("  paper")]
    assert reported == [["paper", "0.9", "[1]"], ["paper", "?", "[1]"]]  # known, and not known; nothing for `untrained`
    assert "[1] Table 1 (paper); ? not known, – not reported" in text and "not comparable" in text
    assert "Parameters" not in text  # not a main metric


@pytest.mark.parametrize(
    ("arms", "leader"),
    [
        ({"method": [0.5], "plain": [0.7]}, "plain"),
        ({"method": [0.7], "plain": [0.7]}, None),  # a tie has no leader
        ({"method": [0.7]}, None),  # nor has an arm alone
        ({"method": [math.nan, 0.9], "plain": [0.1, 0.2]}, None),
        ({"method": [math.nan, 0.9], "plain": [0.1, 0.2], "untrained": [0.0, 0.0]}, "plain"),
    ],
)
def test_the_best_of_a_column(paper: Paper, arms: dict[str, list[float]], leader: str | None) -> None:
    text = shown(results(**arms), paper)
    assert [arm for arm in arms if row(text, arm)[-1] == "*"] == ([leader] if leader else [])
    assert ("* best of the column" in text) == (leader is not None)


def test_lower_can_be_better_and_neither(paper: Paper) -> None:
    found = results(method=[0.5], plain=[0.7])
    for better, leader in (("lower", "method"), (None, None)):
        changed = replace(paper, metrics={"accuracy": Metric("accuracy", "Error", better=better, main=True)})  # type: ignore[arg-type]
        text = shown(found, changed)
        assert [arm for arm in found["arms"] if row(text, arm)[-1] == "*"] == ([leader] if leader else [])
        assert ("↓ Error" in text) == (better == "lower")


def test_a_diverged_seed_is_counted(paper: Paper) -> None:
    assert "0.800 ± 0.141 (1 of 3 not finite)" in shown(results(method=[0.7, math.nan, 0.9], plain=[0.1] * 3), paper)


@pytest.mark.parametrize(
    ("counts", "note"),
    [([1, 1], "one seed, so no spread"), ([3, 3], "over 3 seeds"), ([1, 3], "over 1 to 3 seeds")],
)
def test_how_many_seeds(paper: Paper, counts: list[int], note: str) -> None:
    found = results(method=[0.5] * counts[0], plain=[0.4] * counts[1])
    assert seed_note(found).endswith(note)
    assert ("method (1 seeds)" in shown(found, paper)) == (len(set(counts)) > 1)


def test_columns_that_do_not_fit_go_below(paper: Paper) -> None:
    many = {f"m{k}": Metric(f"m{k}", f"Metric{k}", better="higher", main=True) for k in range(12)}
    found = results(method=[0.5], plain=[0.4])
    for entry in found["arms"].values():
        entry["seeds"]["0"] |= dict.fromkeys(many, 0.123)
    text = shown(found, replace(paper, metrics=many, tables=()), width=80)
    assert all(f"Metric{k}" in text for k in range(12)) and text.count("0.123") == 24
    assert sum(line.startswith("arm") for line in text.splitlines()) > 1


def test_verdicts_with_their_reasons(paper: Paper) -> None:
    claim = paper.claims[0]
    claims = tuple(replace(claim, id=f"C{k}", text=f"Statement {k}.") for k in range(5))
    statuses = ("confirmed", "refuted", "inconclusive", "untested", "untested")
    verdicts = tuple(
        {"claim": f"C{k}", "status": status, "reason": "no [such] arm" if status == "untested" else f"because {k}"}
        for k, status in enumerate(statuses)
    )
    text = shown(results(verdicts, method=[0.5]), replace(paper, claims=claims))
    assert "claims: 1 confirmed, 1 refuted, 1 inconclusive, 2 untested" in text
    for k, status in enumerate(statuses[:3]):
        assert f"{status:12}  C{k}: Statement {k}." in text and f"because {k}" in text
    assert "untested      C3, C4: no [such] arm" in text  # a reason that several share stands once; brackets stay


def test_without_claims_or_figures(paper: Paper) -> None:
    assert "claims: none" in shown(results(method=[]), paper)


@pytest.mark.parametrize(("scale", "said"), [("rehearsal", "figures mean nothing"), ("paper", "the paper's own data")])
def test_what_a_scales_figures_are_worth(paper: Paper, scale: str, said: str) -> None:
    assert said in shown(results(scale=scale, method=[0.5]), paper)
    assert "data photos" in shown({**results(method=[0.5]), "data": "photos"}, paper)
