"""What a run could have decided, what more seeds would decide, and for which arms they would have to run.

All of it assumes that the effect and the spread seen so far hold: an outlook, not a promise. At the number of seeds
named, a claim is about as likely to be decided as not.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.judging.formats import figure
from benchmarks.judging.forms import Metric, OnReported, Ratio, Test, claimed_range, measures, negligible_range
from benchmarks.judging.looks import ALPHA, LOOKS, quantile, spread
from benchmarks.judging.samples import sample
from benchmarks.judging.tables import Paper
from benchmarks.judging.verdict import judge

AS_GOOD_AS_ZERO = 0.2
"""Standard deviations from what would decide a claim below which hundreds of seeds would be needed."""


@dataclass(frozen=True)
class Power:
    """A claim's power, in a run.

    Attributes:
        claim: the claim's id.
        seeds: how many there are.
        effect: how far the effect lies from what leaves the claim undecided (the margin, the bound, zero), in standard
            deviations of the paired differences, of the logarithm of a ratio, of the arm's figures.
        smallest: the smallest effect that this run could have decided, half the width of its interval at 5 %, in the
            metric's unit; of a ratio a fraction (0.1: a quotient of 1.1).
        decided_by: the look of `SEEDS=auto` that decides it if effect and spread hold; None where none does.
        outlook: the same in words.
    """

    claim: str
    seeds: int
    effect: float
    smallest: float
    decided_by: int | None
    outlook: str


def power(found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]] | None = None) -> dict[str, Power]:
    """Power by claim. Claims without two different effects have none: one seed, nothing that varies, no test here.

    Args:
        found: a results file's content.
        networks: what was counted of networks of the real size, by name.
    """
    powers = {}
    for claim in paper.claims:
        if claim.test is None or isinstance(claim.test, OnReported) or found["scale"] not in claim.scales:
            continue
        there = sample(claim.test, found, paper, networks or {})
        if len(set(there.effects)) > 1 and len(there.effects) == len(there.seeds):
            powers[claim.id] = _power(claim.id, claim.test, there.effects)
    return powers


def in_words(found: Power, test: Test, metric: Metric) -> str:
    """`effect of 0.44 standard deviations; 3 seeds decide 0.030; SEEDS=auto would need more than 12 seeds`."""
    smallest = f"{100 * found.smallest:.3g} %" if isinstance(test, Ratio) else figure(found.smallest, metric)
    if found.decided_by is not None:
        needed = f"decides it with {found.outlook} if effect and spread hold"
    elif found.outlook.startswith("none"):
        needed = "would not decide it: as good as zero"
    else:
        needed = f"would need {found.outlook}"
    return (
        f"effect of {found.effect:.2g} standard deviations; {found.seeds} seeds decide {smallest}; SEEDS=auto {needed}"
    )


def decided_by(effects: Sequence[float], test: Test) -> int | None:
    """The first look whose interval would decide, if mean and spread of these two or more effects hold."""
    room, deviation = _room(effects, test)
    return next((n for n, alpha in LOOKS.items() if quantile(n, alpha) * deviation / math.sqrt(n) < room), None)


@dataclass(frozen=True)
class Look:
    """A look that `SEEDS=auto` would still make.

    Attributes:
        seeds: after how many.
        runs: further seeds that each arm would need since the look before, by arm.
        decides: claims that it would decide, if the effects and spreads seen so far hold.
    """

    seeds: int
    runs: dict[str, int]
    decides: tuple[str, ...]


def outlook(
    found: dict[str, Any],
    paper: Paper,
    networks: dict[str, dict[str, float]] | None = None,
    most: int = max(LOOKS),
) -> list[Look]:
    """The looks that `SEEDS=auto` would make beyond the seeds that have run; empty where nothing is left to decide.

    Args:
        found: a results file's content.
        networks: what was counted of networks of the real size, by name.
        most: the last look that may be made.
    """
    expected: dict[str, int | None] = {}
    for claim in paper.claims:
        each = [_expected(test, found, paper, networks or {}) for test in (claim.test, *claim.premise) if test]
        expected[claim.id] = None if None in each else max((look for look in each if look), default=None)
    left = {verdict.claim: verdict.needs for verdict in judge(found, paper, networks, "auto", most) if verdict.needs}
    have = {arm: len(found["arms"][arm]["seeds"]) for arms in left.values() for arm in arms}
    looks = []
    for seeds in (look for look in LOOKS if look <= most):
        runs = {arm: seeds - have[arm] for arms in left.values() for arm in arms if have[arm] < seeds}
        if not runs:
            continue
        have |= dict.fromkeys(runs, seeds)
        decides = [claim for claim in left if (expected[claim] or math.inf) <= seeds]
        looks.append(Look(seeds, runs, tuple(decides)))
        left = {claim: arms for claim, arms in left.items() if claim not in decides}
    return looks


def _expected(test: Test, found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]]) -> int | None:
    """The look that decides a test if effect and spread hold; the first one where nothing varies."""
    if isinstance(test, OnReported):
        return min(LOOKS)
    effects = sample(test, found, paper, networks).effects
    if len(set(effects)) == 1 and (len(effects) > 1 or all(paper.metric(measure).exact for measure in measures(test))):
        return min(LOOKS)
    return decided_by(effects, test) if len(effects) > 1 else None


def _power(claim: str, test: Test, effects: Sequence[float]) -> Power:
    room, deviation = _room(effects, test)
    half = quantile(len(effects), ALPHA) * deviation / math.sqrt(len(effects))
    by = decided_by(effects, test)
    if by is not None:
        words = f"{by} seeds"
    elif room < AS_GOOD_AS_ZERO * deviation:
        words = "none: as good as zero"
    else:
        words = f"more than {max(LOOKS)} seeds"
    smallest = math.expm1(min(half, 700)) if isinstance(test, Ratio) else half
    return Power(claim, len(effects), room / deviation, smallest, by, words)


def _room(effects: Sequence[float], test: Test) -> tuple[float, float]:
    """Half the width up to which an interval around the mean effect decides, and the effects' standard deviation.

    Both are on the scale on which the interval is taken, of a ratio the logarithm's.
    """
    first, last = claimed_range(test)
    ranges = [(-math.inf, first), (first, last), (last, math.inf), negligible_range(test) or (first, first)]
    values = list(effects)
    if isinstance(test, Ratio):
        values = [math.log(effect) for effect in effects]
        ranges = [(_log(low), _log(high)) for low, high in ranges]
    mean = statistics.fmean(values)
    return max(min(mean - low, high - mean) for low, high in ranges if low <= mean <= high), spread(values)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
