"""A planted null: where the method is a second copy of a baseline, how often is something found?

The method's arm is replaced by a copy of its strongest baseline with other seeds; everything else runs as usual, from
the table to the verdicts. No comparison of the two may come out decided more often than chance has it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.judging.forms import Better, Measure
from benchmarks.judging.looks import ALPHA
from benchmarks.judging.tables import TESTABLE, Claim, Paper, Source
from benchmarks.judging.verdict import Verdict

TOO_RARE = 0.01
"""A count of wrong decisions that chance brings about more rarely than this is more than chance."""


@dataclass(frozen=True)
class Null:
    """What came of the comparisons of two copies.

    Attributes:
        comparisons: how many had an interval.
        confirmed, refuted: what they came out as.
        wrong: decisions that are false of two copies.
        expected: how many wrong decisions chance brings about, at most.
        p: how likely at least so many wrong decisions are by chance (binomial, as if comparisons were independent).
        more_than_chance: whether that is too unlikely.
    """

    comparisons: int
    confirmed: int
    refuted: int
    wrong: int
    expected: float
    p: float
    more_than_chance: bool

    def __str__(self) -> str:
        said = "more than chance brings about" if self.more_than_chance else "no more than chance brings about"
        return (
            f"{self.wrong} of {self.comparisons} comparisons of two copies wrongly decided (by chance up to "
            f"{self.expected:.1f}): {said} (p = {self.p:.2g})"
        )


def planted(paper: Paper, method: str, baseline: str) -> Paper:
    """The page with the claims that a planted null is judged by: of every metric that has a direction and is not exact,
    that the method, now a copy of the baseline, is better, with each margin that a claim of the page asks for."""
    margins: dict[str, set[float]] = {
        name: {0.0} for name, one in paper.metrics.items() if one.better and not one.exact
    }
    for claim in paper.claims:
        test = claim.test
        if isinstance(test, Better) and test.better.arm == method and test.better.metric in margins:
            margins[test.better.metric].add(test.margin)
    source = Source("two copies of one arm", "repository")
    claims = [
        Claim(
            id=paper.metrics[metric].label + (f" + {margin:g}" if margin else ""),
            text=f"A copy of {baseline} is better than it by {paper.metrics[metric].label}.",
            source=source,
            scales=TESTABLE,
            untested={},
            test=Better(Measure(method, metric), Measure(baseline, metric), margin),
        )
        for metric, asked in margins.items()
        for margin in sorted(asked)
    ]
    return replace(paper, claims=tuple(claims))


def null_result(verdicts: Iterable[Verdict]) -> Null:
    """How often "better" comparisons of two copies came out decided.

    That one is better is false of two copies; that it is not is false too, unless a margin was asked for.

    Args:
        verdicts: of such comparisons. Those without an interval (arms without results, ties) do not count.
    """
    from scipy.stats import binom  # here, because `make list` starts without scipy

    compared = [verdict for verdict in verdicts if verdict.low is not None and verdict.low != verdict.high]
    statuses = [verdict.status for verdict in compared]
    wrong = sum(v.status == "confirmed" or (v.status == "refuted" and not v.threshold) for v in compared)
    p = float(binom.sf(wrong - 1, len(compared), ALPHA))
    return Null(
        comparisons=len(compared),
        confirmed=statuses.count("confirmed"),
        refuted=statuses.count("refuted"),
        wrong=wrong,
        expected=ALPHA * len(compared),
        p=p,
        more_than_chance=p < TOO_RARE,
    )
