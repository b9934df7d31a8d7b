"""Verdicts: does what was measured confirm a paper's claims, or refute them?

They follow from a results file and the paper's page alone: a page that changes is judged anew without any training.
Seeds are paired by their number. A verdict rests on the Student-t interval of the effect over the seeds:

    better                            difference of the two, positive where the first is better
    not_worse_than, not_better_than   the same
    within                            difference of the two
    ratio                             quotient of the two (interval of its logarithm, transformed back)
    bound, value                      the arm's mean
    reported                          what the paper's own figures come to: no interval

`looks.decide` says what an interval means. A fixed number of seeds is one look, at 5 %; with the plan `auto` a claim is
judged at the looks of `looks.LOOKS`, each with the first so many paired seeds in the order of their numbers, and the
first look that decides stands: seeds that exist because other claims needed them change nothing.

A premise is judged in the same way, and has to be confirmed; else its claim is inconclusive, "premise not met". One on
a run that all seeds share (what a teacher reached from which every arm starts) is a fact of that very run: its figure
decides, without an interval.

Figures that no seed changes need no interval: those of `exact` metrics, of which one seed is enough, and those that
came out the same for every one of several seeds (with `auto`, of three); a tie is inconclusive. Where all stages behind
all figures of a claim are shared by the seeds, there is one figure however many seeds name it: one run, and no
interval; `recipes.page` refuses a page with such a claim.
An arm that has not run, a figure that is not finite and a single seed leave a claim inconclusive: a diverged seed is
not dropped.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.judging.forms import (
    Better,
    Metric,
    NotBetter,
    NotWorse,
    OnReported,
    Ratio,
    Test,
    Value,
    Within,
    claimed_range,
    measures,
)
from benchmarks.judging.looks import ALIKE, ALPHA, LOOKS, Plan, decide, effect_interval, first_decision
from benchmarks.judging.samples import Sample, absent, sample, unusable
from benchmarks.judging.tables import Claim, Paper
from benchmarks.judging.wording import arithmetic, demanded, effect_size, subject, too_small

__all__ = ["STATUSES", "Status", "Verdict", "claimed_range", "decide", "effect_size", "judge", "measures", "undecided"]

Status = Literal["confirmed", "refuted", "no difference", "inconclusive", "untested"]
STATUSES: tuple[Status, ...] = ("confirmed", "refuted", "no difference", "inconclusive", "untested")
DECIDED: tuple[Status, ...] = ("confirmed", "refuted", "no difference")


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim.

    Attributes:
        claim: the claim's id.
        reason: one sentence for people, with the figures.
        kind: what `estimate` is: a difference (positive on the claimed side), a ratio, a mean or what reported figures
            come to; None without a test.
        unit: the unit of `estimate` and its interval, as in `Metric`.
        estimate: the effect over the seeds; None where it could not be computed.
        low, high: its interval; equal to the estimate where nothing varies, None where there is no interval.
        seeds: how many (paired) seeds it rests on; 1 where all seeds share the figures.
        threshold: the claim's margin, delta, bound or tolerance.
        look: with the plan `auto`, the look (its number of seeds) that decided; None where none did or none was needed.
        alpha: the chance of error that its interval allows; None where there is none, or nothing varies.
        exact: whether it rests on counted figures, or on the paper's own.
        shared: stages that all seeds share: an interval says nothing of their luck.
        needs: arms whose further seeds could decide it; none where it is decided or no seed can help.
    """

    claim: str
    status: Status
    reason: str
    kind: Literal["difference", "ratio", "mean", "reported"] | None = None
    unit: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    threshold: float | None = None
    look: int | None = None
    alpha: float | None = None
    exact: bool = False
    shared: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def judge(
    found: dict[str, Any],
    paper: Paper,
    networks: dict[str, dict[str, float]] | None = None,
    plan: Plan = "fixed",
    most: int = max(LOOKS),
) -> list[Verdict]:
    """A verdict per claim, in the page's order.

    Args:
        found: a results file's content.
        networks: what was counted of networks of the real size, by name.
        plan: "fixed", one look at all seeds at 5 %, or "auto", the looks of `LOOKS`.
        most: with "auto", the last look that may be made.
    """
    return [_judge(claim, found, paper, networks or {}, plan, most) for claim in paper.claims]


def undecided(
    found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]] | None, look: int
) -> dict[str, tuple[str, ...]]:
    """Claims that the plan `auto` has not decided after a look, each with the arms that further seeds must run for.

    What further seeds cannot decide is left out: exact and untested claims, differences that never vary, failed arms,
    premises that were found not to hold.
    """
    return {verdict.claim: verdict.needs for verdict in judge(found, paper, networks, "auto", look) if verdict.needs}


def _judge(
    claim: Claim,
    found: dict[str, Any],
    paper: Paper,
    networks: dict[str, dict[str, float]],
    plan: Plan,
    most: int,
) -> Verdict:
    """The verdict on a claim, once its premises are met."""
    with_data = f"{found['scale']}-{found.get('data', 'default')}"
    if found["scale"] not in claim.scales or claim.test is None:
        rehearsed = "A rehearsal shows that the configs run; its figures mean nothing."
        return Verdict(claim.id, "untested", claim.untested.get(found["scale"], rehearsed))
    if with_data in claim.untested:
        return Verdict(claim.id, "untested", claim.untested[with_data])
    if isinstance(claim.test, OnReported):
        return _judge_reported(claim.id, claim.test)
    verdict = _judge_test(claim.id, claim.test, found, paper, networks, plan, most)
    premises = [_judge_test(claim.id, test, found, paper, networks, plan, most, premise=True) for test in claim.premise]
    failed = [premise for premise in premises if premise.status != "confirmed"]
    if not failed:
        looks = [judged.look for judged in (verdict, *premises) if judged.look is not None]
        return replace(verdict, look=max(looks) if looks and verdict.status in DECIDED else None)
    hopeless = [premise for premise in failed if not premise.needs]
    can_help = not hopeless and (verdict.status in DECIDED or verdict.needs)
    needs = dict.fromkeys(arm for judged in (verdict, *failed) for arm in judged.needs) if can_help else {}
    return Verdict(
        claim=claim.id,
        status="inconclusive",
        reason=f"premise not met{'' if hopeless else ' yet'}: {(hopeless or failed)[0].reason}",
        seeds=verdict.seeds,
        exact=verdict.exact,
        shared=verdict.shared,
        needs=tuple(needs),
    )


def _judge_reported(claim: str, test: OnReported) -> Verdict:
    """The verdict on arithmetic: right or wrong, as the paper's figures are what they are."""
    value, plain = test.figure(), Metric("reported", "reported")
    first, last = claimed_range(test)
    right = first <= value <= last if test.equals is not None else first < value < last
    return Verdict(
        claim=claim,
        status="confirmed" if right else "refuted",
        reason=f"{arithmetic(test)}, by the paper's own figures (claimed: {demanded(test, plain)})",
        kind="reported",
        estimate=value,
        low=value,
        high=value,
        threshold=_threshold(test),
        exact=True,
    )


def _judge_test(
    claim: str,
    test: Test,
    found: dict[str, Any],
    paper: Paper,
    networks: dict[str, dict[str, float]],
    plan: Plan,
    most: int,
    premise: bool = False,
) -> Verdict:
    """The verdict on a test of what was measured; a premise may be one of a run that all seeds share."""
    compared = measures(test)
    metrics = [paper.metric(measure) for measure in compared]
    there = sample(test, found, paper, networks)
    known: dict[str, Any] = {
        "claim": claim,
        "kind": "ratio" if isinstance(test, Ratio) else "mean" if len(compared) == 1 else "difference",
        "unit": "" if isinstance(test, Ratio) else metrics[0].unit,
        "seeds": len(there.seeds),
        "threshold": _threshold(test),
        "exact": all(metric.exact for metric in metrics),
        "shared": there.shared,
    }
    if problem := absent(compared, metrics, there, networks if compared[0].real else found["arms"]):
        return Verdict(status="inconclusive", reason=problem, **known)
    problem = unusable(test, metrics, there, plan)
    effects = there.effects
    if not effects or (problem and plan == "fixed"):
        return Verdict(status="inconclusive", reason=problem or "", **known)

    looks = {n: alpha for n, alpha in LOOKS.items() if n <= most} if plan == "auto" else {len(effects): ALPHA}
    status: Status = "inconclusive"
    seeds, ends, alpha, look = len(effects), None, None, None
    least = min(LOOKS) if plan == "auto" else len(effects)
    first = effects[:least]
    never_varies = all(len({column[seed] for seed in there.seeds[: len(first)]}) == 1 for column in there.columns)
    fact = known["exact"] or (premise and there.one_run)
    if len(set(first)) == 1 and (fact or (never_varies and len(first) == least > 1)):
        seeds, ends, status = len(first), (first[0], first[0]), decide(first[0], first[0], test)
    elif looks and len(first) == least > 1:
        status, seeds = first_decision(effects, test, looks.items())
        _, low_end, high_end = effect_interval(effects[:seeds], test, looks[seeds])
        if low_end != high_end or plan == "fixed" or seeds >= ALIKE:
            ends = (low_end, high_end)
            alpha = looks[seeds] if low_end != high_end else None
    if plan == "auto" and status in DECIDED and not fact:
        look = seeds
    constant = ends is not None and ends[0] == ends[1]
    if status == "inconclusive" and not constant and problem:
        return Verdict(status="inconclusive", reason=problem, **known)

    final = status in DECIDED or constant or there.one_run or (plan == "auto" and seeds >= max(LOOKS))
    figures = [[column[seed] for seed in there.seeds[:seeds]] for column in there.columns]
    estimate = effect_interval(effects[:seeds], test)[0] if seeds > 1 else effects[0]
    evidence = _evidence(test, there, seeds, ends, alpha, plan, known["exact"])
    known |= {"seeds": seeds, "needs": () if final else tuple(dict.fromkeys(measure.arm for measure in compared))}
    low, high = ends or (None, None)
    return Verdict(
        status=status,
        reason=f"{subject(test, figures, metrics)}{effect_size(test, estimate, ends, metrics[0])}{evidence}"
        + (f" (all of it {too_small(test, metrics[0])})" if status == "no difference" else _claimed(test, metrics[0])),
        estimate=estimate,
        low=low,
        high=high,
        look=look,
        alpha=alpha,
        **known,
    )


def _evidence(
    test: Test,
    there: Sample,
    seeds: int,
    ends: tuple[float, float] | None,
    alpha: float | None,
    plan: Plan,
    exact: bool,
) -> str:
    """What an effect rests on, to be written behind it."""
    counted = f"{seeds} {'paired ' if len(there.columns) > 1 else ''}seeds"
    if ends is None:
        if there.one_run:
            return "; one run only, which all seeds share"
        if seeds == 1:
            return "; one seed has no spread, run SEEDS=3"
        if seeds < min(LOOKS):
            return f" over {counted}; the first look is after {min(LOOKS)}"
        return f" for each of {counted}, on a scale too coarse to show their spread"
    if ends[0] != ends[1]:
        return f" over {counted}" + (f" ({100 * (1 - (alpha or ALPHA)):.4g} % interval)" if plan == "auto" else "")
    if measures(test)[0].real:
        evidence = " on the real architecture, counted"
    elif seeds > 1:
        evidence = f" for each of {counted}"
    elif there.one_run and not exact:
        evidence = " in the run that all seeds share"
    else:
        evidence = ", counted: one seed decides"
    return evidence + (": a tie" if decide(*ends, test) == "inconclusive" else "")


def _threshold(test: Test) -> float | None:
    if isinstance(test, Better | NotWorse | NotBetter):
        return test.margin
    if isinstance(test, Within):
        return test.delta
    if isinstance(test, Value):
        return test.tolerance
    if isinstance(test, OnReported) and test.equals is not None:
        return test.tolerance
    return test.below if test.above is None else test.above


def _claimed(test: Test, metric: Metric) -> str:
    asked = demanded(test, metric)
    return f" (claimed: {asked})" if asked else ""
