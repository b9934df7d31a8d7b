"""A user's results beside the reference."""

import math
from typing import Any

import pytest

from benchmarks.judging.tables import Metric
from benchmarks.showing.compare import compare, figures, place

ACCURACY = Metric("accuracy", "Accuracy", better="higher")


def results(statuses: dict[str, str], fingerprint: str = "f", **arms: list[float]) -> dict[str, Any]:
    entries = {
        name: {
            "seeds": {str(k): {"accuracy": v} for k, v in enumerate(values)},
            "stages": [{"fingerprint": fingerprint}],
        }
        for name, values in arms.items()
    }
    return {"arms": entries, "verdicts": [{"claim": claim, "status": status} for claim, status in statuses.items()]}


def test_a_sentence_says_which_verdicts_agree() -> None:
    here = results({"C1": "confirmed", "C2": "inconclusive", "C3": "untested", "C4": "refuted"})
    there = results({"C1": "confirmed", "C2": "confirmed", "C3": "confirmed", "C5": "refuted"})
    said = compare(here, there).sentence()
    assert said == "1 of 2 verdicts agree with the reference; C2: inconclusive here, confirmed there"
    assert compare(here, results({})).sentence() == "no claim was tested both here and in the reference"


def test_a_reference_of_other_code_is_said() -> None:
    here, there = results({"C1": "confirmed"}, a=[1.0], b=[1.0]), results({"C1": "confirmed"}, "g", b=[1.0], c=[1.0])
    assert compare(here, there).sentence().endswith("the reference is of other code or settings for b")
    assert compare(here, here).sentence() == "1 of 1 verdicts agree with the reference"


@pytest.mark.parametrize(
    ("mine", "theirs", "where"),
    [
        ([0.70, 0.72, 0.71], [0.70, 0.72, 0.71], "within"),
        ([0.76, 0.75, 0.77], [0.70, 0.72, 0.71], "outside"),
        ([0.73], [0.70, 0.72, 0.71], "within"),  # one seed may lie as far from a mean as a seed does
        ([0.7], [0.7, 0.7, 0.7], "equal"),
        ([0.7004], [0.7], "equal"),
        ([0.71], [0.7], "other"),
        ([math.nan], [0.7], None),
        ([], [0.7], None),
    ],
)
def test_where_a_figure_stands(mine: list[float], theirs: list[float], where: str | None) -> None:
    assert place(mine, theirs, ACCURACY) == where


def test_a_seed_like_the_references_lies_within_it_19_times_of_20() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    places = [place([*rng.normal(size=3)], [*rng.normal(size=5)], ACCURACY) for _ in range(2000)]
    assert places.count("outside") / len(places) == pytest.approx(0.05, abs=0.015)


def test_figures_of_arms_that_both_have() -> None:
    here, there = results({}, a=[0.5, 0.6], b=[0.1]), results({}, a=[0.5, 0.6], c=[0.1])
    assert figures(here, there, [ACCURACY]) == {("a", "accuracy"): "within"}
