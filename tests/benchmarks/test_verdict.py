"""Verdicts against closed forms and scipy: paired seeds, ties, missing arms, single seeds, counted figures."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.judging import null, power
from benchmarks.judging.formats import as_reported, figure, interval, mean_spread
from benchmarks.judging.forms import (
    Better,
    Bound,
    Cell,
    Measure,
    Metric,
    NotBetter,
    NotWorse,
    OnReported,
    Ratio,
    Test,
    Value,
    Within,
    claimed_range,
)
from benchmarks.judging.looks import LOOKS, Plan, decide, t_interval
from benchmarks.judging.tables import Claim, Paper, Source
from benchmarks.judging.verdict import STATUSES, Verdict, judge, undecided

METRICS = {
    "accuracy": Metric("accuracy", "Accuracy", better="higher"),
    "error": Metric("error", "Error", unit="%", better="lower", decimals=1),
    "recall": Metric("recall", "Recall", better="higher", validation=True),
    "size": Metric("size", "Parameters", unit="count", better="lower", decimals=2, exact=True),
    "work": Metric("work", "Work", unit="TFLOP", exact=True),
}
SOURCE = Source("Table 1", "paper")
PLANS: tuple[Plan, ...] = ("fixed", "auto")


def of(arm: str, metric: str = "accuracy") -> Measure:
    return Measure(arm, metric)


def results(shared: tuple[str, ...] = (), scale: str = "mini", **figures: Any) -> dict[str, Any]:
    """A results file: figures are a list by seed, `a_<metric>=[...]`, or a dictionary; arms in `shared` ran once."""
    arms: dict[str, Any] = {}
    for name, values in figures.items():
        arm, _, metric = name.partition("_")
        by_seed = values if isinstance(values, dict) else dict(enumerate(values))
        stages = [{"stage": f"{arm}_data", "shared": True}, {"stage": f"{arm}_train", "shared": arm in shared}]
        for seed, value in by_seed.items():
            entry = arms.setdefault(arm, {"seeds": {}} | ({"stages": stages} if shared else {}))
            entry["seeds"].setdefault(str(seed), {})[metric or "accuracy"] = value
    return {"scale": scale, "arms": arms}


def page(*tests: Test | None, premise: tuple[Test, ...] = ()) -> Paper:
    """A page with a claim per test, C, D, ..."""
    claims = tuple(
        Claim(
            name, "text", SOURCE, ("mini", "paper") if test else (), {} if test else {"mini": "no arm"}, test, premise
        )
        for name, test in zip("CDEFGHIJK", tests, strict=False)
    )
    return Paper("p", "t", "t", "a", 2020, None, None, None, "m", "", METRICS, (), claims)


def verdict(
    test: Test | None,
    scale: str = "mini",
    networks: dict | None = None,
    plan: Plan = "fixed",
    premise: tuple[Test, ...] = (),
    shared: tuple[str, ...] = (),
    **figures: Any,
) -> Verdict:
    """The verdict on a claim about arms a and b, as `results` makes them."""
    (found,) = judge(results(shared, scale, **figures), page(test, premise=premise), networks, plan)
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


def test_a_claim_may_be_untested_with_other_data() -> None:
    (claim,) = page(BETTER).claims
    paper = replace(page(), claims=(replace(claim, untested={"mini-photos": "no texts"}),))
    found = results(a=[0.9, 0.91], b=[0.1, 0.1])
    told = {data: judge(found | {"data": data}, paper)[0] for data in ("default", "photos", "drawings")}
    assert (told["photos"].status, told["photos"].reason) == ("untested", "no texts")
    assert {told[data].status for data in ("default", "drawings")} == {"confirmed"}


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


# --- margins, smallest effects, two metrics, reported figures


@pytest.mark.parametrize(
    ("difference", "not_worse", "not_better"),
    [
        (0.3, "confirmed", "refuted"),
        (0.0, "confirmed", "confirmed"),
        (-0.3, "refuted", "confirmed"),
        (-0.1, "inconclusive", "confirmed"),
        (0.1, "confirmed", "inconclusive"),
    ],
)
@pytest.mark.parametrize("metric", ["accuracy", "error"])
def test_one_sided_margins_follow_the_metrics_direction(
    difference: float, not_worse: str, not_better: str, metric: str
) -> None:
    b = [0.50, 0.52, 0.47, 0.55]
    noise = [0.010, -0.010, 0.005, -0.005]
    better = difference if metric == "accuracy" else -difference
    figures = {f"a_{metric}": [x + better + e for x, e in zip(b, noise, strict=True)], f"b_{metric}": b}
    found = verdict(NotWorse(of("a", metric), of("b", metric), 0.1), **figures)
    assert found.status == not_worse and found.estimate == pytest.approx(difference) and found.threshold == 0.1
    assert "(claimed: at most 0.1" in found.reason and found.reason.endswith(" worse)")
    assert verdict(NotBetter(of("a", metric), of("b", metric), 0.1), **figures).status == not_better


def test_four_steps_are_as_good_as_twenty() -> None:
    """Two metrics of two arms, with a margin."""
    test = NotWorse(of("a", "accuracy"), of("b", "recall"), 0.05)
    found = verdict(test, a=[0.80, 0.81, 0.79], b_recall=[0.81, 0.82, 0.80])
    assert found.status == "confirmed" and found.reason.startswith("a (Accuracy) 0.800 vs b (Recall) 0.810: difference")
    same_arm = NotBetter(of("a", "accuracy"), of("a", "recall"), 0.05)
    assert verdict(same_arm, a=[0.80, 0.81, 0.79], a_recall=[0.81, 0.82, 0.80]).status == "confirmed"


def test_an_effect_too_small_to_matter_is_no_difference() -> None:
    test = Better(of("a"), of("b"), smallest=0.05)
    found = verdict(test, a=[0.510, 0.521, 0.532], b=[0.50, 0.51, 0.52])
    assert found.status == "no difference" and found.low is not None and found.low > 0
    assert found.reason.endswith("over 3 paired seeds (all of it less than 0.05)") and not found.needs
    assert verdict(test, a=[0.56, 0.571, 0.582], b=[0.50, 0.51, 0.52]).status == "confirmed"
    assert verdict(test, a=[0.7, 0.3, 0.5], b=[0.5, 0.5, 0.5]).status == "inconclusive"
    tied = verdict(Better(of("a", "size"), of("b", "size"), smallest=10), a_size=[7.0], b_size=[7.0])
    assert tied.status == "no difference" and "tie" not in tied.reason
    ratio = verdict(Ratio(of("a"), of("b"), below=1.0, smallest=0.05), a=[1.0, 1.01, 0.99], b=[1.0, 1.0, 1.0])
    assert ratio.status == "no difference" and ratio.reason.endswith("(all of it within 5 % of 1)")
    bound = verdict(Bound(of("a"), above=0.5, smallest=0.1), a=[0.51, 0.52, 0.50])
    assert bound.status == "no difference" and bound.reason.endswith("(all of it less than 0.1 from the bound)")


@pytest.mark.parametrize(("above", "status"), [(98, "confirmed"), (99, "refuted")])
def test_the_papers_own_figures_are_judged_by_arithmetic(above: float, status: str) -> None:
    test = OnReported(Cell("t", "Ours", "Size", 10), Cell("t", "Theirs", "Size", 625), "percent_less", above=above)
    for plan in PLANS:
        found = verdict(test, plan=plan)
        assert found.status == status and found.kind == "reported" and found.exact and not found.needs
        assert found.estimate == found.low == found.high == 98.4
        assert found.reason.startswith("Ours, Size 10 vs Theirs, Size 625: 98.4 % less, by the paper's own figures")


def test_a_value_of_reported_figures_has_its_ends() -> None:
    test = OnReported(Cell("t", "r", "c", 0.3), Cell("t", "s", "c", 0.2), "difference", equals=0.2, tolerance=0.1)
    assert verdict(test).status == "confirmed"
    assert verdict(OnReported(Cell("t", "r", "c", 0.3), above=0.3)).status == "refuted"


# --- premises

GATE = Bound(of("b", "recall"), above=0.5)


@pytest.mark.parametrize("plan", PLANS)
def test_a_claim_waits_for_its_premise(plan: Plan) -> None:
    a, b = [0.70, 0.71, 0.72], [0.60, 0.611, 0.62]
    met = verdict(BETTER, plan=plan, premise=(GATE,), a=a, b=b, b_recall=[0.70, 0.71, 0.72])
    assert met.status == "confirmed" and met.look == (3 if plan == "auto" else None)
    failed = verdict(BETTER, plan=plan, premise=(GATE,), a=a, b=b, b_recall=[0.30, 0.31, 0.32])
    assert failed.status == "inconclusive" and failed.reason.startswith("premise not met: b 0.310 [")
    assert failed.estimate is None and failed.needs == ()
    unclear = verdict(BETTER, plan=plan, premise=(GATE,), a=a, b=b, b_recall=[0.3, 0.6, 0.7])
    assert unclear.status == "inconclusive" and unclear.reason.startswith("premise not met yet: b 0.533 [")
    assert unclear.needs == ("b",)
    absent = verdict(BETTER, plan=plan, premise=(GATE,), a=a, b=b)
    assert absent.reason == "premise not met: Recall was not measured for arm b" and absent.needs == ()


def test_a_premise_may_compare_and_is_judged_at_looks_of_its_own() -> None:
    gate = Better(of("c", "recall"), of("b", "recall"))
    a, b = [0.70, 0.71, 0.72, 0.0, 0.0], [0.60, 0.611, 0.62, 0.5, 0.5]
    figures = {"b_recall": [0.5, 0.5, 0.5, 0.5, 0.5], "c_recall": [0.60, 0.64, 0.7, 0.63, 0.66]}
    found = verdict(BETTER, plan="auto", premise=(gate,), a=a, b=b, **figures)
    assert (found.status, found.look, found.seeds) == ("confirmed", 5, 3)  # the premise was shown at the second look


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("reached", "status"), [(0.7, "confirmed"), (0.5, "inconclusive"), (0.3, "inconclusive")])
def test_a_premise_of_a_run_that_all_seeds_share_is_a_fact_of_it(plan: Plan, reached: float, status: str) -> None:
    figures = {"a": [0.70, 0.71, 0.72], "b": [0.60, 0.611, 0.62], "c_recall": [reached] * 3}
    gate = Bound(of("c", "recall"), above=0.5)
    found = verdict(BETTER, plan=plan, premise=(gate,), shared=("c",), **figures)
    assert (found.status, found.look) == (status, 3 if plan == "auto" and status == "confirmed" else None)
    if status == "inconclusive":
        assert found.reason.startswith(f"premise not met: c {reached:.3f} in the run that all seeds share")
        assert found.needs == ()


# --- looks


def test_auto_judges_at_looks_and_the_first_decision_stands() -> None:
    a, b = [0.70, 0.71, 0.72], [0.60, 0.611, 0.62]
    three = verdict(BETTER, plan="auto", a=a, b=b)
    assert (three.status, three.look, three.seeds, three.alpha) == ("confirmed", 3, 3, 0.005)
    assert three.reason.endswith("over 3 paired seeds (99.5 % interval)")
    more = verdict(BETTER, plan="auto", a=[*a, 0, 0, 0, 0, 0], b=[*b, 1, 1, 1, 1, 1])
    assert more == three
    assert verdict(BETTER, a=[*a, 0, 0, 0, 0, 0], b=[*b, 1, 1, 1, 1, 1]).status == "refuted"
    _, low, high = t_interval([0.1, 0.099, 0.1], 0.005)
    assert (three.low, three.high) == pytest.approx((low, high))


def test_looks_take_seeds_in_the_order_of_their_numbers() -> None:
    figures = {10: 9.0, 11: 9.0, 2: 0.72, 1: 0.71, 0: 0.70}
    found = verdict(BETTER, plan="auto", a=figures, b=dict.fromkeys(figures, 0.6) | {1: 0.611})
    assert found.look == 3 and found.estimate == pytest.approx((0.1 + 0.099 + 0.12) / 3)


def test_auto_says_what_further_seeds_are_needed_for() -> None:
    a, b = [0.70, 0.71, 0.60], [0.60, 0.70, 0.62]
    found = verdict(BETTER, plan="auto", a=a, b=b)
    assert (found.status, found.look, found.alpha, found.needs) == ("inconclusive", None, 0.005, ("a", "b"))
    two = verdict(BETTER, plan="auto", a=a[:2], b=b[:2])
    assert two.low is None and two.needs == ("a", "b") and "the first look is after 3" in two.reason
    assert verdict(BETTER, plan="auto", a=a[:1], b=b[:1]).needs == ("a", "b")
    twelve = verdict(BETTER, plan="auto", a=a * 4, b=[0.65, 0.72, 0.64] * 4)
    assert twelve.status == "inconclusive" and twelve.seeds == 12 and twelve.needs == ()


def test_auto_and_a_seed_that_diverged() -> None:
    a, b = [0.70, 0.71, 0.72], [0.60, 0.611, 0.62]
    assert verdict(BETTER, plan="auto", a=[*a, math.nan], b=[*b, 0.6]).look == 3  # decided before
    lost = verdict(BETTER, plan="auto", a=[0.7, 0.5, 0.6, math.nan, 0.6], b=[0.6] * 5)
    assert lost.status == "inconclusive" and lost.needs == () and "not finite for seed 3" in lost.reason
    first = verdict(BETTER, plan="auto", a=[math.nan, 0.7, 0.7], b=[0.6] * 3)
    assert "not finite for seed 0" in first.reason and first.needs == ()


def test_undecided_claims_and_the_arms_they_need() -> None:
    tests = (
        Better(of("a"), of("b")),  # clear
        Better(of("c"), of("b")),  # not yet
        Bound(of("a"), above=0.705),  # not yet
        Better(of("d"), of("b")),  # a tie
        Better(of("e"), of("b")),  # failed
        Better(of("a", "size"), of("b", "size")),  # counted
        None,
    )
    found = results(
        a=[0.70, 0.71, 0.72],
        b=[0.60, 0.611, 0.62, 0.63, 0.64],
        c=[0.70, 0.5, 0.6],
        d=[0.60, 0.611, 0.62, 0.63, 0.64],
        a_size=[5.0, 5.0, 5.0],
        b_size=[6.0, 6.0, 6.0],
    )
    assert undecided(found, page(*tests), None, 5) == {"D": ("c", "b"), "E": ("a",)}
    gated = page(tests[0], premise=(Bound(of("c"), above=0.55),))
    assert undecided(found, gated, {}, 3) == {"C": ("c",)}
    assert undecided(results(scale="rehearsal", a=[1.0], b=[2.0]), gated, {}, 3) == {}


def test_undecided_after_a_look_knows_nothing_of_later_ones() -> None:
    a, b = [0.70, 0.71, 0.60, 0.9, 0.9, 0.9, 0.91, 0.9], [0.60, 0.70, 0.62, 0.1, 0.1, 0.1, 0.1, 0.1]
    found, claims = results(a=a, b=b), page(BETTER)
    assert undecided(found, claims, None, 3) == {"C": ("a", "b")}
    assert undecided(found, claims, None, 8) == {}


# --- what seeds share


@pytest.mark.parametrize("plan", PLANS)
def test_figures_of_shared_stages_are_one_figure(plan: Plan) -> None:
    found = verdict(BETTER, plan=plan, shared=("a", "b"), a=[0.9] * 3, b=[0.1] * 3)
    assert found.status == "inconclusive" and found.seeds == 1 and found.low is None and found.needs == ()
    assert "one run only, which all seeds share" in found.reason and found.estimate == pytest.approx(0.8)
    assert found.shared == ("a_data", "a_train", "b_data", "b_train")
    one = verdict(Bound(of("a"), above=0.5), plan=plan, shared=("a",), a=[0.9] * 3)
    assert one.status == "inconclusive" and one.seeds == 1
    counted = verdict(Bound(of("a", "size"), above=0.5), plan=plan, shared=("a",), a_size=[0.9] * 3)
    assert counted.status == "confirmed" and counted.exact


@pytest.mark.parametrize("plan", PLANS)
def test_a_shared_reference_beside_runs_that_vary_is_said(plan: Plan) -> None:
    found = verdict(BETTER, plan=plan, shared=("b",), a=[0.70, 0.71, 0.72], b=[0.6] * 3)
    assert found.status == "confirmed" and found.seeds == 3 and found.shared == ("a_data", "b_data", "b_train")
    assert not found.exact


def test_figures_that_never_vary_are_evidence_where_nothing_says_that_they_are_shared() -> None:
    assert verdict(BETTER, plan="auto", a=[0.9] * 3, b=[0.1] * 3).status == "confirmed"
    assert verdict(BETTER, plan="auto", shared=("b",), a=[0.9] * 3, b=[0.1] * 3).status == "confirmed"


def test_effects_that_come_out_alike_on_a_coarse_scale_wait_for_the_next_look() -> None:
    a, b = [0.5, 0.4, 0.6, 0.6, 0.5], [0.25, 0.15, 0.35, 0.375, 0.25]
    found = verdict(BETTER, plan="auto", a=a[:3], b=b[:3])
    assert found.status == "inconclusive" and found.low is None and found.needs == ("a", "b")
    assert found.reason.endswith("+0.250 for each of 3 paired seeds, on a scale too coarse to show their spread")
    assert verdict(BETTER, plan="auto", a=a, b=b).look == 5
    assert verdict(BETTER, plan="auto", a=[*a[:4], 0.5], b=[*b[:3], 0.35, 0.25]).reason.endswith("of 5 paired seeds")
    assert verdict(BETTER, plan="auto", a=a[:3], b=a[:3]).needs == ("a", "b")  # alike by chance, or by design?
    tied = verdict(BETTER, plan="auto", a=a, b=a)
    assert tied.status == "inconclusive" and tied.reason.endswith(": a tie") and tied.needs == ()
    assert verdict(BETTER, plan="auto", a=[0.5] * 3, b=[0.5] * 3).needs == ()


@pytest.mark.parametrize("most", [0, 2])
def test_no_look_at_all(most: int) -> None:
    (found,) = judge(results(a=[0.7, 0.6, 0.7], b=[0.1, 0.2, 0.3]), page(BETTER), None, "auto", most)
    assert found.status == "inconclusive" and found.low is None


# --- power, outlook, a planted null


def test_power_in_closed_form() -> None:
    a = [0.60, 0.61, 0.65]
    found = power.power(results(a=a, b=[0.5] * 3), page(BETTER))["C"]
    deviation = stats.tstd([0.10, 0.11, 0.15])
    assert found.seeds == 3 and found.effect == pytest.approx(0.12 / deviation)
    assert found.smallest == pytest.approx(stats.t.ppf(0.975, 2) * deviation / math.sqrt(3))
    assert found.outlook == f"{found.decided_by} seeds"


@pytest.mark.parametrize(
    ("deviations", "outlook"),
    [(100.0, "3 seeds"), (3.0, "5 seeds"), (1.5, "8 seeds"), (0.9, "12 seeds"), (0.5, "more than 12 seeds")]
    + [(0.1, "none: as good as zero"), (-3.0, "5 seeds")],
)
def test_the_seeds_that_would_decide(deviations: float, outlook: str) -> None:
    effects = [deviations - 1, deviations, deviations + 1]  # standard deviation 1
    found = power.power(results(a=effects, b=[0.0] * 3), page(BETTER))["C"]
    assert found.effect == pytest.approx(abs(deviations)) and found.outlook == outlook
    by = power.decided_by(effects, BETTER)
    for look, alpha in LOOKS.items():
        half = stats.t.ppf(1 - alpha / 2, look - 1) / math.sqrt(look)
        decided = decide(deviations - half, deviations + half, BETTER) != "inconclusive"
        assert decided == (by is not None and look >= by)


@pytest.mark.parametrize(
    ("deviations", "said"),
    [
        (
            3.0,
            "effect of 3 standard deviations; 3 seeds decide 2.484; SEEDS=auto decides it with 5 seeds if effect and",
        ),
        (0.5, "effect of 0.5 standard deviations; 3 seeds decide 2.484; SEEDS=auto would need more than 12 seeds"),
        (
            0.1,
            "effect of 0.1 standard deviations; 3 seeds decide 2.484; SEEDS=auto would not decide it: as good as zero",
        ),
    ],
)
def test_power_in_words(deviations: float, said: str) -> None:
    effects = [deviations - 1, deviations, deviations + 1]
    found = power.power(results(a=effects, b=[0.0] * 3), page(BETTER))["C"]
    assert power.in_words(found, BETTER, METRICS["accuracy"]).startswith(said)


def test_no_effect_is_decided_where_a_smallest_one_is_named() -> None:
    effects = results(a=[-0.1, 0.0, 0.1], b=[0.0] * 3)
    assert power.power(effects, page(BETTER))["C"].decided_by is None
    assert power.power(effects, page(Better(of("a"), of("b"), smallest=0.3)))["C"].decided_by == 5
    ratios = results(a=[math.exp(-0.1), 1.0, math.exp(0.1)], b=[1.0] * 3)
    found = power.power(ratios, page(Ratio(of("a"), of("b"), below=1.0, smallest=0.3)))["C"]
    assert found.decided_by == 5 and found.effect == pytest.approx(math.log(1.3) / 0.1)
    assert found.smallest == pytest.approx(math.exp(stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)) - 1)


def test_power_of_what_has_no_spread() -> None:
    claims = page(BETTER, Bound(of("c"), above=0.0), OnReported(Cell("t", "r", "c", 1), above=0), None)
    assert power.power(results(a=[0.5], b=[0.4], c=[1.0, 1.0]), claims) == {}


def test_outlook_of_the_looks_to_come() -> None:
    tests = (
        Better(of("a"), of("b")),  # decided
        Better(of("c"), of("b")),  # 8 seeds
        Better(of("d"), of("b")),  # as good as zero
    )
    found = results(a=[0.70, 0.71, 0.72], b=[0.60, 0.60, 0.60], c=[0.65, 0.75, 0.85], d=[0.5, 0.6, 0.7])
    assert power.outlook(found, page(*tests)) == [
        power.Look(5, {"c": 2, "b": 2, "d": 2}, ()),
        power.Look(8, {"c": 3, "b": 3, "d": 3}, ("D",)),
        power.Look(12, {"d": 4, "b": 4}, ()),
    ]
    assert [look.seeds for look in power.outlook(found, page(*tests), most=5)] == [5]
    assert power.outlook(found, page(tests[0])) == []
    gated = page(tests[0], premise=(Bound(of("c"), above=0.6),))
    assert power.outlook(found, gated)[-1] == power.Look(8, {"c": 3}, ("C",))
    single = results(a=[0.7], b=[0.6])
    assert [(look.seeds, look.decides) for look in power.outlook(single, page(BETTER))] == [
        (3, ()),
        (5, ()),
        (8, ()),
        (12, ()),
    ]


def test_a_planted_null_counts_what_is_wrong_of_two_copies() -> None:
    tests = (BETTER, Better(of("a"), of("b"), margin=0.95), Better(of("a", "recall"), of("b", "recall")))
    alike = results(a=[0.50, 0.52, 0.47], b=[0.51, 0.50, 0.49], a_recall=[1.0, 2.0, 3.0], b_recall=[1.0, 2.0, 3.0])
    found = null.null_result(judge(alike, page(*tests)))
    assert (found.comparisons, found.confirmed, found.refuted, found.wrong) == (2, 0, 1, 0)  # rightly not 0.95 better
    assert found.p == 1 and not found.more_than_chance and "0 of 2 comparisons" in str(found)
    leaking = results(
        **{f"a_{metric}": [0.90, 0.91, 0.92] for metric in ("accuracy", "recall")},
        **{f"b_{metric}": [0.1, 0.1, 0.1] for metric in ("accuracy", "recall")},
    )
    worse = null.null_result(judge(leaking, page(*tests)))
    assert (worse.wrong, worse.comparisons, worse.refuted) == (2, 3, 1) and worse.more_than_chance
    assert worse.p == pytest.approx(stats.binomtest(2, 3, 0.05, alternative="greater").pvalue)
    assert null.null_result([]).p == 1


@pytest.mark.parametrize("plan", PLANS)
def test_two_copies_are_found_alike_in_a_planted_null(plan: Plan) -> None:
    rng = np.random.default_rng(1)
    metrics = ("accuracy", "error", "recall")
    claims = page(*(Better(of("a", metric), of("b", metric)) for metric in metrics))
    verdicts = []
    for _ in range(150):
        figures = {f"{arm}_{metric}": rng.normal(size=12).tolist() for arm in "ab" for metric in metrics}
        verdicts += judge(results(**figures), claims, plan=plan)
    found = null.null_result(verdicts)
    assert found.comparisons == 450 and 5 < found.wrong < 40 and not found.more_than_chance


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
