"""What looks and intervals decide: by simulation with a fixed seed, how often that is wrong, how often it succeeds."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.judging.forms import (
    Better,
    Bound,
    Measure,
    NotBetter,
    NotWorse,
    Ratio,
    Test,
    Value,
    Within,
    claimed_range,
    has_its_ends,
    negligible_range,
)
from benchmarks.judging.looks import ALPHA, LOOKS, Decision, confidence, decide, first_decision, spread, t_interval

A, B, OTHER = Measure("a", "m"), Measure("b", "m"), Measure("b", "n")
FORMS = {
    "better": Better(A, B),
    "better by a margin": Better(A, B, margin=0.5),
    "better, smallest": Better(A, B, smallest=2.0),
    "better by a margin, smallest": Better(A, B, margin=1.0, smallest=2.0),
    "two metrics": Better(A, OTHER),
    "within": Within(A, B, 2.0),
    "within, two metrics": Within(A, OTHER, 2.0),
    "within 0": Within(A, B, 0.0),
    "not worse": NotWorse(A, B, 1.0),
    "not worse at all": NotWorse(A, B, 0.0),
    "not better": NotBetter(A, B, 1.0),
    "ratio below": Ratio(A, B, below=1.0),
    "ratio above": Ratio(A, B, above=3.0),
    "ratio, smallest": Ratio(A, B, below=1.0, smallest=0.8),
    "bound": Bound(A, above=0.5),
    "bound, smallest": Bound(A, below=0.5, smallest=2.0),
    "value": Value(A, 1.0, 2.0),
}
FIXED = [(3, ALPHA)]
REPEATS = 4000


def holds(decision: Decision, effect: float, test: Test) -> bool:
    """Whether a decision is right where the true effect is this one; an inconclusive one never is wrong."""
    first, last = claimed_range(test)
    negligible = negligible_range(test)
    if decision == "confirmed":
        return first <= effect <= last if has_its_ends(test) else first < effect < last
    if decision == "refuted":
        return effect < first or effect > last
    if decision == "no difference":
        return negligible is not None and negligible[0] < effect < negligible[1]
    return True


def truths(test: Test) -> list[float]:
    """True effects at which a wrong decision is most likely: no effect, and every end of a range."""
    ends = [end for end in (*claimed_range(test), *(negligible_range(test) or ())) if math.isfinite(end)]
    return sorted({1.0 if isinstance(test, Ratio) else 0.0, *ends})


def samples(test: Test, effect: float, repeats: int, seeds: int = 12) -> list[list[float]]:
    """Effects around a true one, with a standard deviation of 1 (of a ratio: of its logarithm)."""
    noise = np.random.default_rng(7).normal(size=(repeats, seeds))
    drawn = np.exp(noise + math.log(effect)) if isinstance(test, Ratio) else noise + effect
    made: list[list[float]] = drawn.tolist()
    return made


@pytest.mark.parametrize("looks", [FIXED, [(8, ALPHA)], list(LOOKS.items())], ids=["3 seeds", "8 seeds", "auto"])
@pytest.mark.parametrize("form", FORMS)
def test_at_most_one_in_twenty_decisions_is_wrong(form: str, looks: list[tuple[int, float]]) -> None:
    test = FORMS[form]
    for effect in truths(test):
        wrong = sum(
            not holds(first_decision(effects, test, looks)[0], effect, test)
            for effects in samples(test, effect, REPEATS)
        )
        assert wrong / REPEATS <= ALPHA + 0.01, effect  # three standard errors of the simulation


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("looks", [FIXED, list(LOOKS.items())], ids=["3 seeds", "auto"])
def test_figures_on_a_coarse_scale_decide_no_more_often(step: float, looks: list[tuple[int, float]]) -> None:
    """Shares of few samples: effects are often alike, and their spread comes out too small."""
    figures = np.round(np.random.default_rng(3).normal(size=(2, REPEATS, 12)) / step)
    decided = [first_decision(effects, FORMS["better"], looks)[0] for effects in (figures[0] - figures[1]).tolist()]
    assert 1 - decided.count("inconclusive") / REPEATS <= ALPHA + 0.005


def test_the_rate_of_errors_is_used_up_by_one_look_and_nearly_by_four() -> None:
    """The bound is no empty one: without an effect a claim of more or less is wrong as often as it may be."""
    for looks, least in ((FIXED, 0.04), (list(LOOKS.items()), 0.03)):
        decided = [first_decision(effects, FORMS["better"], looks)[0] for effects in samples(FORMS["better"], 0, 4000)]
        assert least < 1 - decided.count("inconclusive") / 4000 < 0.06


@pytest.mark.parametrize("form", ["better", "not worse", "two metrics", "ratio above"])
def test_an_effect_of_one_and_a_half_deviations_is_found(form: str) -> None:
    test = FORMS[form]
    first = claimed_range(test)[0]
    effect = first * math.exp(1.5) if isinstance(test, Ratio) else first + 1.5
    found = [first_decision(effects, test, LOOKS.items()) for effects in samples(test, effect, 1000)]
    assert sum(decision == "confirmed" for decision, _ in found) / 1000 > 0.8
    assert {look for _, look in found} == set(LOOKS)


def test_no_effect_at_all_is_no_difference_where_a_smallest_one_of_two_deviations_is_named() -> None:
    found = [
        first_decision(effects, FORMS["better, smallest"], LOOKS.items())[0]
        for effects in samples(FORMS["better"], 0, 500)
    ]
    assert found.count("no difference") / 500 > 0.8


def test_looks_spend_five_percent() -> None:
    assert LOOKS == {3: 0.005, 5: 0.01, 8: 0.015, 12: 0.02} and math.fsum(LOOKS.values()) == pytest.approx(ALPHA)
    assert [confidence(look) for look in LOOKS] == pytest.approx([0.995, 0.99, 0.985, 0.98])


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_an_interval_is_students(seeds: int, alpha: float) -> None:
    values = np.random.default_rng(seeds).normal(1e6, 1e-2, seeds)  # far from zero: squares must not cancel
    assert spread(values.tolist()) == pytest.approx(values.std(ddof=1), rel=1e-6)
    _, low, high = t_interval(values.tolist(), alpha)
    assert (low, high) == pytest.approx(stats.t.interval(1 - alpha, seeds - 1, values.mean(), stats.sem(values)))


def test_equal_values_have_an_interval_without_width() -> None:
    assert t_interval([0.1, 0.1, 0.1]) == (0.1, 0.1, 0.1)


def test_the_first_look_that_decides_stands() -> None:
    clear, unclear = [1.0, 1.01, 0.99], [1.0, -1.0, 0.5]
    turned = [-5.0, -5.1, -4.9, -5.0, -5.0, -5.0, -5.1, -4.9, -5.0]
    assert first_decision(clear, FORMS["better"], LOOKS.items()) == ("confirmed", 3)
    assert first_decision(clear + turned, FORMS["better"], LOOKS.items()) == ("confirmed", 3)
    assert first_decision(unclear + [0.0], FORMS["better"], LOOKS.items()) == ("inconclusive", 3)
    assert first_decision([-5.0, -4.0, -6.0, *turned], FORMS["better"], LOOKS.items()) == ("refuted", 5)
    assert first_decision([1.0] * 3, FORMS["better"], LOOKS.items()) == ("inconclusive", 3)  # no spread is seen yet
    assert first_decision([1.0] * 4 + [1.1], FORMS["better"], LOOKS.items()) == ("confirmed", 5)
    assert first_decision([0.0] * 5 + turned, FORMS["better"], LOOKS.items()) == ("inconclusive", 5)  # a tie
    assert first_decision([1.0] * 3, FORMS["better"], FIXED) == ("confirmed", 3)
    assert first_decision(clear[:2], FORMS["better"], LOOKS.items()) == ("inconclusive", 0)


@pytest.mark.parametrize(
    ("test", "low", "high", "decision"),
    [
        (Better(A, B, smallest=0.1), 0.2, 0.3, "confirmed"),
        (Better(A, B, smallest=0.1), 0.05, 0.3, "confirmed"),  # it may matter, and is on the claimed side
        (Better(A, B, smallest=0.1), 0.01, 0.09, "no difference"),  # on the claimed side, and too small to matter
        (Better(A, B, smallest=0.1), -0.09, -0.01, "no difference"),
        (Better(A, B, smallest=0.1), -0.09, 0.09, "no difference"),
        (Better(A, B, smallest=0.1), 0.0, 0.0, "no difference"),  # counted alike
        (Better(A, B, smallest=0.1), -0.1, 0.05, "inconclusive"),  # an end is of interest
        (Better(A, B, smallest=0.1), -0.3, -0.05, "refuted"),
        (Better(A, B, margin=0.2, smallest=0.1), 0.01, 0.09, "no difference"),  # rather than "not more than 0.2"
        (Better(A, B, margin=0.2, smallest=0.1), 0.11, 0.19, "refuted"),
        (Better(A, B, margin=0.05, smallest=0.1), 0.06, 0.09, "no difference"),
        (Ratio(A, B, below=1.0, smallest=0.05), 0.951, 1.049, "no difference"),
        (Ratio(A, B, below=1.0, smallest=0.05), 0.90, 0.99, "confirmed"),
        (Bound(A, above=5.0, smallest=0.5), 4.6, 5.4, "no difference"),
        (Bound(A, above=5.0, smallest=0.5), 5.1, 5.6, "confirmed"),
        (NotWorse(A, B, 0.1), -0.1, 5.0, "confirmed"),
        (NotWorse(A, B, 0.1), -0.11, 5.0, "inconclusive"),
        (NotWorse(A, B, 0.1), -0.5, -0.11, "refuted"),
        (NotBetter(A, B, 0.1), -5.0, 0.1, "confirmed"),
        (NotBetter(A, B, 0.1), -5.0, 0.2, "inconclusive"),
        (NotBetter(A, B, 0.1), 0.11, 0.2, "refuted"),
    ],
)
def test_the_order_of_decisions(test: Test, low: float, high: float, decision: str) -> None:
    assert decide(low, high, test) == decision
