"""Verdicts: does what was measured confirm a paper's claims, or refute them?

Seeds are paired by their number. A verdict rests on the 95 % Student-t interval of the effect over the seeds:

    better   difference of the two arms, positive on the claimed side: more than the margin
    within   difference of the two arms: from -delta to delta
    ratio    quotient of the two arms (interval of its logarithm, transformed back): below or above the bound
    bound    the arm's mean: below or above the bound
    value    the arm's mean: the reported figure, give or take the tolerance

Confirmed when the whole interval lies where the claim says, refuted when all of it lies elsewhere, else inconclusive.
Figures that no seed changes need no interval: those of `exact` metrics, of which one seed is enough, and those that
came out the same for every one of several seeds; a tie is inconclusive. An arm that has not run, a figure that is not
finite and a single seed leave a claim inconclusive: a diverged seed is not dropped.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.judging.formats import as_reported, figure, interval
from benchmarks.judging.tables import Better, Claim, Measure, Metric, Paper, Ratio, Test, Value, Within

Status = Literal["confirmed", "refuted", "inconclusive", "untested"]
STATUSES: tuple[Status, ...] = ("confirmed", "refuted", "inconclusive", "untested")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim.

    Attributes:
        claim: the claim's id.
        reason: one sentence for people, with the figures.
        kind: what `estimate` is: a difference (positive on the claimed side), a ratio or a mean; None without a test.
        unit: the unit of `estimate` and its interval, as in `Metric`.
        estimate: the effect over the seeds; None where it could not be computed.
        low, high: its interval; equal to the estimate where nothing varies, None where there is no interval.
        seeds: how many (paired) seeds it rests on.
        threshold: the claim's margin, delta, bound or tolerance.
    """

    claim: str
    status: Status
    reason: str
    kind: Literal["difference", "ratio", "mean"] | None = None
    unit: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    threshold: float | None = None


def judge(found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]] | None = None) -> list[Verdict]:
    """A verdict per claim, in the page's order.

    Args:
        found: a results file's content.
        networks: what was counted of networks of the real size, by name.
    """
    return [_judge(claim, found, paper, networks or {}) for claim in paper.claims]


def measures(test: Test) -> list[Measure]:
    """What a claim compares, in the order of its effect."""
    first = [test.better, test.worse] if isinstance(test, Better) else [test.a]
    return first + ([test.b] if isinstance(test, Within | Ratio) else [])


def claimed_range(test: Test) -> tuple[float, float]:
    """Where a claim says that its effect lies."""
    if isinstance(test, Better):
        return test.margin, math.inf
    if isinstance(test, Within):
        return -test.delta, test.delta
    if isinstance(test, Value):
        return test.equals - test.tolerance, test.equals + test.tolerance
    return (-math.inf if test.above is None else test.above), (math.inf if test.below is None else test.below)


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of two or more values, and the ends of its 95 % Student-t interval."""
    from scipy.special import stdtrit  # here, because `make list` starts without scipy

    mean = statistics.fmean(values)
    quantile = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def decide(low: float, high: float, test: Test) -> Status:
    """Where an interval lies. The ends of the claimed range belong to it for `within` and `value` only."""
    first, last = claimed_range(test)
    inside = first <= low and high <= last if isinstance(test, Within | Value) else first < low and high < last
    if inside:
        return "confirmed"
    return "refuted" if high < first or low > last else "inconclusive"


def _judge(claim: Claim, found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]]) -> Verdict:
    if found["scale"] not in claim.scales or claim.test is None:
        rehearsed = "A rehearsal shows that the configs run; its figures mean nothing."
        return Verdict(claim.id, "untested", claim.untested.get(found["scale"], rehearsed))
    test = claim.test
    compared = measures(test)
    metrics = [paper.metric(measure) for measure in compared]
    known: dict[str, Any] = {"claim": claim.id, "kind": _kind(test), "threshold": _threshold(test)}
    known["unit"] = "" if isinstance(test, Ratio) else metrics[0].unit

    if compared[0].real:
        found = {**found, "arms": {name: {"seeds": {"0": counts}} for name, counts in networks.items()}}
    columns = [_by_seed(found, measure) for measure in compared]
    seeds = [seed for seed in columns[0] if all(seed in column for column in columns)]
    known["seeds"] = len(seeds)
    if problem := _problem(found, columns, compared, metrics, isinstance(test, Ratio)):
        return Verdict(status="inconclusive", reason=problem, **known)
    figures = [[column[seed] for seed in seeds] for column in columns]
    effects = [_effect(test, list(values), metrics[0]) for values in zip(*figures, strict=True)]

    counted = f"{len(seeds)} {'paired ' if len(compared) > 1 else ''}seeds"
    ends: tuple[float, float] | None
    if len(set(effects)) == 1 and (len(seeds) > 1 or all(metric.exact for metric in metrics)):
        estimate, ends = effects[0], (effects[0], effects[0])
        if compared[0].real:
            evidence = " on the real architecture, counted"
        else:
            evidence = f" for each of {counted}" if len(seeds) > 1 else ", counted: one seed decides"
    elif len(seeds) == 1:
        estimate, ends = effects[0], None
        evidence = "; one seed has no spread, run SEEDS=3"
    elif isinstance(test, Ratio):
        estimate, *log_ends = map(math.exp, t_interval([math.log(effect) for effect in effects]))
        ends = (log_ends[0], log_ends[1])
        evidence = f" over {counted}"
    else:
        estimate, *mean_ends = t_interval(effects)
        ends = (mean_ends[0], mean_ends[1])
        evidence = f" over {counted}"
    status = decide(*ends, test) if ends else "inconclusive"
    if ends and ends[0] == ends[1] and status == "inconclusive":
        evidence += ": a tie"
    reason = f"{_subject(test, figures, compared, metrics)}{effect_size(test, estimate, ends, metrics[0])}{evidence}"
    low, high = ends or (None, None)
    return Verdict(
        status=status, reason=reason + _claimed(test, metrics[0]), estimate=estimate, low=low, high=high, **known
    )


def _by_seed(found: dict[str, Any], measure: Measure) -> dict[str, float]:
    """An arm's figures by seed; empty where it has none."""
    seeds = found["arms"].get(measure.arm, {"seeds": {}})["seeds"]
    return {seed: values[measure.metric] for seed, values in seeds.items() if measure.metric in values}


def _problem(
    found: dict[str, Any], columns: list[dict[str, float]], measures: list[Measure], metrics: list[Metric], ratio: bool
) -> str | None:
    """Why there is nothing to compare."""
    absent = list(dict.fromkeys(measure.arm for measure in measures if measure.arm not in found["arms"]))
    if absent and measures[0].real:
        return f"{' and '.join(absent)}: not measured yet, run make speed"
    if absent:
        arms = f"arm {absent[0]} has" if len(absent) == 1 else f"arms {' and '.join(absent)} have"
        return f"{arms} no results: not run, or failed"
    for column, measure, metric in zip(columns, measures, metrics, strict=True):
        if not column:
            return f"{metric.label} was not measured for arm {measure.arm}"
        wrong = [seed for seed, value in column.items() if not math.isfinite(value)]
        if wrong:
            numbers = f"seed{'s' if len(wrong) > 1 else ''} {', '.join(wrong)}"
            return f"{metric.label} of arm {measure.arm} is not finite for {numbers}"
        if ratio and any(value <= 0 for value in column.values()):
            return f"{metric.label} of arm {measure.arm} is not positive, so that no ratio can be taken"
    if not columns[0].keys() & columns[-1].keys():
        return f"arms {measures[0].arm} and {measures[-1].arm} have no seed in common"
    return None


def _kind(test: Test) -> Literal["difference", "ratio", "mean"]:
    if isinstance(test, Better | Within):
        return "difference"
    return "ratio" if isinstance(test, Ratio) else "mean"


def _threshold(test: Test) -> float | None:
    if isinstance(test, Better):
        return test.margin
    if isinstance(test, Within):
        return test.delta
    if isinstance(test, Value):
        return test.tolerance
    return test.below if test.above is None else test.above


def _effect(test: Test, values: list[float], metric: Metric) -> float:
    """The effect for one seed, from the figures of the claim's one or two arms."""
    if isinstance(test, Ratio):
        return values[0] / values[1]
    if isinstance(test, Better) and metric.better == "lower":
        return values[1] - values[0]
    return values[0] - values[1] if len(values) == 2 else values[0]


def _subject(test: Test, figures: list[list[float]], measures: list[Measure], metrics: list[Metric]) -> str:
    """`decoupled 0.712 vs coupled 0.620: difference `; only the name of a single arm, whose figure is the effect."""
    if len(measures) == 1:
        return f"{measures[0].arm} "
    means = [figure(statistics.fmean(values), metric) for values, metric in zip(figures, metrics, strict=True)]
    arms = [measure.arm for measure in measures]
    if metrics[0] != metrics[1]:
        arms = [f"{arm} ({metric.label})" for arm, metric in zip(arms, metrics, strict=True)]
    effect = "ratio" if isinstance(test, Ratio) else "difference"
    if isinstance(test, Better) and metrics[0].better == "lower":
        effect = "reduction"
    return f"{arms[0]} {means[0]} vs {arms[1]} {means[1]}: {effect} "


def effect_size(test: Test, estimate: float, ends: tuple[float, float] | None, metric: Metric) -> str:
    """The effect, with its interval where it has one."""
    if isinstance(test, Ratio):
        shown = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends and ends[0] != ends[1] else ""
        return f"{estimate:.3g}{shown}"
    sign = isinstance(test, Better | Within)
    return interval(estimate, *ends, metric, sign) if ends and ends[0] != ends[1] else figure(estimate, metric, sign)


def _claimed(test: Test, metric: Metric) -> str:
    """What the claim asks for, where its text may not say it."""
    if isinstance(test, Better):
        return f" (claimed: more than {as_reported(test.margin, metric)})" if test.margin else ""
    if isinstance(test, Within):
        return f" (claimed: at most {as_reported(test.delta, metric)} apart)"
    if isinstance(test, Value):
        return f" (claimed: {as_reported(test.equals, metric)}, give or take {as_reported(test.tolerance, metric)})"
    side, bound = ("above", test.above) if test.below is None else ("below", test.below)
    assert bound is not None
    return f" (claimed: {side} {f'{bound:.6g}' if isinstance(test, Ratio) else as_reported(bound, metric)})"
