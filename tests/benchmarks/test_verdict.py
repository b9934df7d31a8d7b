"""Verdicts against closed forms and scipy: paired seeds, ties, missing arms, single seeds, counted figures."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.judging.formats import as_reported, figure, interval, mean_spread
from benchmarks.judging.forms import claimed_range
from benchmarks.judging.looks import decide, t_interval
from benchmarks.judging.tables import Better, Bound, Claim, Measure, Metric, Paper, Ratio, Source, Test, Value, Within
from benchmarks.judging.verdict import STATUSES, Verdict, judge

METRICS = {
    "accuracy": Metric("accuracy", "Accuracy", better="higher"),
    "error": Metric("error", "Error", unit="%", better="lower", decimals=1),
    "size": Metric("size", "Parameters", unit="count", better="lower", decimals=2, exact=True),
    "work": Metric("work", "Work", unit="TFLOP", exact=True),
}
SOURCE = Source("Table 1", "paper")


def of(arm: str, metric: str = "accuracy") -> Measure:
    return Measure(arm, metric)


def verdict(test: Test | None, scale: str = "mini", networks: dict | None = None, **figures: Any) -> Verdict:
    """The verdict on a claim about arms a and b; figures are a list by seed, `a_<metric>=[...]`, or a dictionary."""
    arms: dict[str, Any] = {}
    for name, values in figures.items():
        arm, _, metric = name.partition("_")
        by_seed = values if isinstance(values, dict) else dict(enumerate(values))
        for seed, value in by_seed.items():
            arms.setdefault(arm, {"seeds": {}})["seeds"].setdefault(str(seed), {})[metric or "accuracy"] = value
    claim = Claim("C", "text", SOURCE, ("mini", "paper") if test else (), {} if test else {"mini": "no arm"}, test)
    page = Paper("p", "t", "t", "a", 2020, None, None, None, "m", "", METRICS, (), (claim,))
    (found,) = judge({"scale": scale, "arms": arms}, page, networks)
    return found


BETTER = Better(of("a"), of("b"))


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_the_interval_is_that_of_a_paired_t_test(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    a, b = rng.normal(0.7, 0.05, seeds), rng.normal(0.6, 0.05, seeds)
    found = verdict(BETTER, a=a.tolist(), b=b.tolist())
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert found.estimate == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.status == "inconclusive") == (test.pvalue > 0.05)
    assert found.kind == "difference" and found.seeds == seeds


def test_two_values_in_closed_form() -> None:
    """The quantile of Student's t with one degree of freedom is tan(0.475 pi)."""
    mean, low, high = t_interval([1.0, 2.0])
    half = math.tan(0.475 * math.pi) / 2
    assert (mean, low, high) == pytest.approx((1.5, 1.5 - half, 1.5 + half))


def test_seeds_are_paired_by_their_number_not_by_their_order() -> None:
    noise = {0: 0.0, 1: 0.3, 2: -0.2}
    a = {seed: 0.5 + noise[seed] for seed in (2, 0, 1)}
    b = {seed: 0.4 + noise[seed] + 0.001 * seed for seed in (0, 1, 2)}
    found = verdict(BETTER, a=a, b=b)
    assert found.status == "confirmed" and found.estimate == pytest.approx(
        0.099
    )  # unpaired it would drown in the noise
    assert stats.ttest_ind(list(a.values()), list(b.values())).pvalue > 0.5


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    found = verdict(BETTER, a={0: 0.5, 1: 0.52, 5: 0.0}, b={1: 0.41, 0: 0.4, 3: 9.0})
    assert found.seeds == 2 and found.estimate == pytest.approx(0.105)
    assert "no seed in common" in verdict(BETTER, a={0: 1.0}, b={1: 0.0}).reason


@pytest.mark.parametrize(
    ("a", "b", "status"),
    [
        ([0.70, 0.71, 0.72], [0.60, 0.61, 0.63], "confirmed"),
        ([0.60, 0.61, 0.63], [0.70, 0.71, 0.72], "refuted"),
        ([0.60, 0.71, 0.63], [0.61, 0.70, 0.60], "inconclusive"),
    ],
)
def test_better(a: list[float], b: list[float], status: str) -> None:
    assert verdict(BETTER, a=a, b=b).status == status


def test_where_lower_is_better_the_effect_is_the_reduction() -> None:
    test = Better(of("a", "error"), of("b", "error"))
    found = verdict(test, a_error=[10.0, 11.0, 12.0], b_error=[20.0, 21.5, 22.0])
    assert found.status == "confirmed" and found.estimate == pytest.approx(10.1667, abs=1e-3) and found.unit == "%"
    assert "reduction +10.2 [" in found.reason


def test_a_margin_has_to_be_exceeded() -> None:
    a, b = [0.70, 0.71, 0.72], [0.60, 0.61, 0.621]
    assert verdict(Better(of("a"), of("b"), margin=0.05), a=a, b=b).status == "confirmed"
    assert verdict(Better(of("a"), of("b"), margin=0.1), a=a, b=b).status == "inconclusive"
    found = verdict(Better(of("a"), of("b"), margin=0.15), a=a, b=b)
    assert found.status == "refuted" and found.threshold == 0.15 and "(claimed: more than 0.15)" in found.reason


@pytest.mark.parametrize(
    ("difference", "status"), [(0.0, "confirmed"), (0.01, "confirmed"), (0.1, "refuted"), (-0.1, "refuted")]
)
def test_within(difference: float, status: str) -> None:
    rng = np.random.default_rng(0)
    b = rng.normal(0.5, 0.1, 5)
    a = b + difference + rng.normal(0, 0.001, 5)
    assert verdict(Within(of("a"), of("b"), 0.02), a=a.tolist(), b=b.tolist()).status == status


def test_within_is_inconclusive_across_an_end() -> None:
    found = verdict(Within(of("a"), of("b"), 0.02), a=[0.50, 0.53, 0.51], b=[0.50, 0.50, 0.50])
    assert found.status == "inconclusive" and "at most 0.02 apart" in found.reason


def test_a_ratio_has_the_interval_of_its_logarithm() -> None:
    a, b = np.array([2.0, 2.2, 1.9]), np.array([1.0, 1.05, 0.9])
    found = verdict(Ratio(of("a"), of("b"), above=1.5), a=a.tolist(), b=b.tolist())
    low, high = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95)
    assert found.estimate == pytest.approx(stats.gmean(a / b))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert found.status == "confirmed" and found.kind == "ratio" and found.unit == ""
    assert verdict(Ratio(of("a"), of("b"), below=1.5), a=a.tolist(), b=b.tolist()).status == "refuted"


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_no_ratio_of_figures_that_are_not_positive(bad: float) -> None:
    found = verdict(Ratio(of("a"), of("b"), below=1.0), a=[1.0, 2.0], b=[1.0, bad])
    assert found.status == "inconclusive" and "Accuracy of arm b is not positive" in found.reason


@pytest.mark.parametrize(
    ("test", "status"),
    [
        (Bound(of("a"), above=0.4), "confirmed"),
        (Bound(of("a"), below=0.4), "refuted"),
        (Bound(of("a"), above=0.5), "inconclusive"),
        (Value(of("a"), 0.5, 0.1), "confirmed"),
        (Value(of("a"), 0.8, 0.1), "refuted"),
        (Value(of("a"), 0.5, 0.001), "inconclusive"),
    ],
)
def test_an_arms_mean(test: Test, status: str) -> None:
    found = verdict(test, a=[0.49, 0.50, 0.51])
    low, high = stats.t.interval(0.95, 2, 0.5, stats.sem([0.49, 0.50, 0.51]))
    assert found.status == status and (found.low, found.high) == pytest.approx((low, high)) and found.kind == "mean"


def test_one_seed_decides_nothing() -> None:
    found = verdict(BETTER, a=[0.9], b=[0.1])
    assert found.status == "inconclusive" and found.estimate == pytest.approx(0.8)
    assert found.low is None and found.high is None and "one seed has no spread, run SEEDS=3" in found.reason


def test_one_seed_decides_about_what_is_counted() -> None:
    smaller = verdict(Better(of("a", "size"), of("b", "size")), a_size=[1e6], b_size=[2e6])
    assert (smaller.status, smaller.low, smaller.high) == (
        "confirmed",
        1e6,
        1e6,
    ) and "one seed decides" in smaller.reason
    assert verdict(Value(of("a", "size"), 5.78e6, 5e4), a_size=[5.79e6]).status == "confirmed"
    assert verdict(Value(of("a", "size"), 5.78e6, 5e4), a_size=[5e6]).status == "refuted"
    assert verdict(Ratio(of("a", "work"), of("b", "work"), below=0.5), a_work=[1.0], b_work=[4.0]).status == "confirmed"


def test_a_counted_figure_that_varies_has_an_interval() -> None:
    found = verdict(Bound(of("a", "size"), above=0.0), a_size=[1.0, 100.0])
    assert found.status == "inconclusive" and found.low is not None and found.low < 0


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_tie_is_inconclusive(seeds: int) -> None:
    found = verdict(BETTER, a=[0.5] * seeds, b=[0.5] * seeds)
    assert found.status == "inconclusive" and found.estimate == 0.0 and found.reason.endswith(": a tie")
    assert verdict(Better(of("a", "size"), of("b", "size")), a_size=[7.0], b_size=[7.0]).status == "inconclusive"
    assert verdict(Ratio(of("a"), of("b"), below=1.0), a=[0.5] * seeds, b=[0.5] * seeds).status == "inconclusive"
    assert verdict(Within(of("a"), of("b"), 0.0), a=[0.5] * seeds, b=[0.5] * seeds).status == "confirmed"


def test_the_same_effect_for_every_seed_needs_no_interval() -> None:
    found = verdict(BETTER, a=[0.75, 0.5, 0.25], b=[0.5, 0.25, 0.0])
    assert (found.status, found.low, found.high) == (
        "confirmed",
        0.25,
        0.25,
    ) and "each of 3 paired seeds" in found.reason


def test_missing_arms_and_figures_are_named() -> None:
    missing = verdict(BETTER, b=[0.5, 0.6])
    assert missing.status == "inconclusive" and missing.reason == "arm a has no results: not run, or failed"
    assert missing.seeds == 0 and missing.estimate is None
    assert verdict(BETTER).reason == "arms a and b have no results: not run, or failed"
    assert verdict(BETTER, a_error=[0.5], b=[0.5]).reason == "Accuracy was not measured for arm a"
    assert verdict(Bound(of("a"), above=0.0)).reason.startswith("arm a has no results")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_seed_that_diverged_is_not_dropped(bad: float) -> None:
    found = verdict(BETTER, a=[0.9, 0.91, 0.92, bad], b=[0.1, 0.1, 0.1, 0.1])
    assert found.status == "inconclusive" and found.reason == "Accuracy of arm a is not finite for seed 3"
    assert "for seeds 0, 1" in verdict(BETTER, a=[0.9, 0.9], b=[bad, bad]).reason


def test_claims_are_tested_at_their_scales_only() -> None:
    assert verdict(None).reason == "no arm" and verdict(None).status == "untested"
    rehearsed = verdict(BETTER, scale="rehearsal", a=[0.9, 0.9], b=[0.1, 0.1])
    assert rehearsed.status == "untested" and "figures mean nothing" in rehearsed.reason and rehearsed.estimate is None


@pytest.mark.parametrize(
    ("test", "first", "last"),
    [
        (Better(of("a"), of("b"), 0.1), 0.1, math.inf),
        (Within(of("a"), of("b"), 0.1), -0.1, 0.1),
        (Ratio(of("a"), of("b"), below=2.0), -math.inf, 2.0),
        (Bound(of("a"), above=3.0), 3.0, math.inf),
        (Value(of("a"), 5.0, 1.0), 4.0, 6.0),
    ],
)
def test_the_claimed_range_and_its_ends(test: Test, first: float, last: float) -> None:
    assert claimed_range(test) == (first, last)
    closed = isinstance(test, Within | Value)
    for end in (first, last):
        if math.isfinite(end):
            assert decide(end, end, test) == ("confirmed" if closed else "inconclusive")
            assert decide(end - 0.01, end + 0.01, test) == "inconclusive"
            outside = end - 1 if end == first else end + 1
            assert decide(outside, outside + 0.5 if outside < end else outside + 0.1, test) == "refuted"
    inside = max(first, -9.0) + 0.01
    assert decide(inside, inside, test) == "confirmed"


def test_every_status_has_its_name() -> None:
    assert STATUSES == ("confirmed", "refuted", "no difference", "inconclusive", "untested")


def test_about_one_in_twenty_true_null_effects_is_decided() -> None:
    """The method's rate of errors: with no difference at all, 5 % of verdicts are not inconclusive."""
    rng = np.random.default_rng(0)
    statuses = [
        verdict(BETTER, a=rng.normal(size=3).tolist(), b=rng.normal(size=3).tolist()).status for _ in range(500)
    ]
    assert sum(status != "inconclusive" for status in statuses) / 500 == pytest.approx(0.05, abs=0.02)
    assert min(statuses.count("confirmed"), statuses.count("refuted")) > 3


# --- figures as people read them


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.71249, "accuracy", "0.712"),
        (-0.5, "accuracy", "−0.500"),
        (0.00004, "accuracy", "4e−05"),  # never a zero that is none
        (0.0, "accuracy", "0.000"),
        (12.34, "error", "12.3%"),
        (5_743_892.0, "size", "5.74 M"),
        (632e6, "size", "632 M"),
        (950.0, "size", "950"),
        (4_058.0, "size", "4.06 k"),
        (math.nan, "accuracy", "not finite"),
    ],
)
def test_figures(value: float, metric: str, text: str) -> None:
    assert figure(value, METRICS[metric]) == text


@pytest.mark.parametrize(
    ("values", "metric", "text"),
    [
        ([0.7, 0.8, 0.9], "accuracy", "0.800 ± 0.100"),
        ([0.7], "accuracy", "0.700"),
        ([0.7, 0.7], "accuracy", "0.700"),
        ([5e6, 6e6], "size", "5.50 ± 0.71 M"),
        ([10.0, 12.0], "error", "11.0 ± 1.4%"),
        ([0.7, math.nan, 0.9], "accuracy", "0.800 ± 0.141 (1 of 3 not finite)"),
        ([math.inf], "accuracy", "not finite"),
        ([], "accuracy", "–"),
    ],
)
def test_mean_and_spread(values: list[float], metric: str, text: str) -> None:
    assert mean_spread(values, METRICS[metric]) == text


def test_intervals_and_reported_figures() -> None:
    assert interval(0.092, 0.05, 0.134, METRICS["accuracy"], sign=True) == "+0.092 [0.050, 0.134]"
    assert interval(1.5e6, -0.5e6, 3.5e6, METRICS["size"]) == "1.50 [−0.50, 3.50] M"
    assert as_reported(0.72, METRICS["accuracy"]) == "0.72" and as_reported(5_780_000, METRICS["size"]) == "5.78 M"
    assert as_reported(-3, METRICS["error"]) == "−3%"


@pytest.mark.parametrize(
    ("test", "status"),
    [
        (Value(Measure("Student", "params", real=True), 5.8e6, 5e4), "confirmed"),
        (Value(Measure("Student", "params", real=True), 6.8e6, 5e4), "refuted"),
        (Ratio(Measure("Student", "flops", real=True), Measure("Teacher", "flops", real=True), below=0.1), "confirmed"),
        (Value(Measure("Other", "params", real=True), 5.8e6, 5e4), "inconclusive"),
    ],
)
def test_sizes_are_judged_by_what_was_counted_of_the_real_networks(test: Test, status: str) -> None:
    networks = {"Student": {"params": 5.78e6, "flops": 4e10}, "Teacher": {"params": 6e8, "flops": 3e12}}
    found = verdict(test, networks=networks, Student=[1.0, 2.0])  # an arm of the same name is another thing
    assert found.status == status
    assert ("make speed" if status == "inconclusive" else "on the real architecture") in found.reason
