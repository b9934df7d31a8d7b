"""When seeds are looked at and what an interval decides: the numbers behind a verdict, from effects alone.

A fixed number of seeds is one look at 5 %. `SEEDS=auto` looks after 3, 5, 8 and 12 seeds, each time with the part of
the 5 % that `LOOKS` gives it, and stops at the first look that decides. A wrong decision needs an interval that misses
the true effect at one of the looks at least, and the four chances for that add up to 5 % whatever the stopping depends
on (Bonferroni's bound: it needs nothing of how the looks hang together).
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

from benchmarks.judging.forms import Ratio, Test, claimed_range, has_its_ends, negligible_range

Decision = Literal["confirmed", "refuted", "no difference", "inconclusive"]
Plan = Literal["fixed", "auto"]
ALPHA = 0.05
ALIKE = 5  # effects that come out alike at a look of several count as never varying from that many seeds on
LOOKS = {3: 0.005, 5: 0.01, 8: 0.015, 12: 0.02}
"""Seeds at a look of `SEEDS=auto`, and the chance of error that it may spend; together `ALPHA`."""


def confidence(look: int) -> float:
    """The confidence of the intervals at a look of `SEEDS=auto`: 0.995 at the first, 0.98 at the last."""
    return 1 - LOOKS[look]


@cache
def quantile(seeds: int, alpha: float = ALPHA) -> float:
    """How many standard errors an interval over this many seeds reaches to either side (Student's t)."""
    from scipy.special import stdtrit  # here, because `make list` starts without scipy

    return float(stdtrit(seeds - 1, 1 - alpha / 2))


def t_interval(values: Sequence[float], alpha: float = ALPHA) -> tuple[float, float, float]:
    """Mean of two or more values, and the ends of its Student-t interval."""
    if len(set(values)) == 1:
        return values[0], values[0], values[0]
    mean = statistics.fmean(values)
    half = quantile(len(values), alpha) * spread(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation of two or more values."""
    mean = statistics.fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def effect_interval(effects: Sequence[float], test: Test, alpha: float = ALPHA) -> tuple[float, float, float]:
    """Estimate and interval of two or more effects; a ratio's are those of its logarithm, transformed back."""
    if isinstance(test, Ratio):
        mean, low, high = t_interval([math.log(effect) for effect in effects], alpha)
        return math.exp(mean), _exp(low), _exp(high)
    return t_interval(effects, alpha)


def _exp(value: float) -> float:
    """e to the value, infinity where that is too large a number: the end of an interval that says nothing."""
    return math.exp(value) if value < 700 else math.inf


def decide(low: float, high: float, test: Test) -> Decision:
    """What an interval says of a claim.

    1. All of it closer to no effect than the smallest effect of interest: *no difference*, also where it leaves out
       zero and where the claim's side of it would have been *confirmed* or *refuted* - what is too small to matter
       neither bears out nor contradicts a claim of something that does.
    2. All of it where the claim says: *confirmed*. The ends of the claimed range belong to it where the claim is of "at
       most" (`has_its_ends`), not where it is of "more than".
    3. All of it elsewhere: *refuted*. Else *inconclusive*.
    """
    negligible = negligible_range(test)
    if negligible and negligible[0] < low and high < negligible[1]:
        return "no difference"
    first, last = claimed_range(test)
    inside = first <= low and high <= last if has_its_ends(test) else first < low and high < last
    if inside:
        return "confirmed"
    return "refuted" if high < first or low > last else "inconclusive"


def first_decision(effects: Sequence[float], test: Test, looks: Iterable[tuple[int, float]]) -> tuple[Decision, int]:
    """The first look that decides, with what it says; the last one where none does.

    Effects that came out alike, of figures that vary, may lie on a coarse scale (shares of ten samples), where three do
    so by chance in up to 3 % of cases: more than the first of several looks may spend, so that they wait for the next
    one. Five alike count as never varying: more seeds have nothing to say, also of a tie.

    Args:
        effects: by seed, in the order in which the seeds are run.
        looks: (seeds, chance of error) of each look, at least one; those that need more effects are left out.
    """
    decision: Decision = "inconclusive"
    last = 0
    for seeds, alpha in looks:
        if seeds > len(effects):
            break
        _, low, high = effect_interval(effects[:seeds], test, alpha)
        last = seeds
        if low == high and alpha < ALPHA and seeds < ALIKE:
            continue
        decision = decide(low, high, test)
        if decision != "inconclusive" or low == high:
            break
    return decision, last
