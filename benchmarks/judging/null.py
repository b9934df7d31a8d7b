"""A planted null: where the method is a second copy of a baseline, how often is something found?

The method's arm is replaced by a copy of its strongest baseline with other seeds; everything else runs as usual, from
the table to the verdicts. No comparison of the two may come out decided more often than chance has it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.judging.forms import Better, Measure, OnReported, Ratio, measures
from benchmarks.judging.looks import ALPHA, holds
from benchmarks.judging.tables import TESTABLE, Claim, Paper, Source
from benchmarks.judging.verdict import Verdict

TOO_RARE = 0.01
"""A count of wrong decisions that chance brings about more rarely than this is more than chance."""


@dataclass(frozen=True)
class Null:
    """What came of the comparisons of two copies.

    Attributes:
        comparisons: how many had an interval.
        confirmed, refuted: what they came out as, right or wrong ("at most 0.02 apart" is rightly confirmed).
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
    """The page with the claims that a planted null is judged by.

    They are the page's own claims that compare the two arms by one metric that is not exact, and "better" for every
    such metric that has a direction and no claim of that form.
    """
    own = [
        replace(claim, premise=())
        for claim in paper.claims
        if claim.test is not None and _compares(claim, paper, method, baseline)
    ]
    tested = {claim.test.better.metric for claim in own if isinstance(claim.test, Better)}
    source = Source("two copies of one arm", "repository")
    further = [
        Claim(
            id=f"null-{metric.name}",
            text=f"A copy of {baseline} differs from it by {metric.label}.",
            source=source,
            scales=TESTABLE,
            untested={},
            test=Better(Measure(method, metric.name), Measure(baseline, metric.name)),
        )
        for metric in paper.metrics.values()
        if metric.better and not metric.exact and metric.name not in tested
    ]
    return replace(paper, claims=(*own, *further))


def _compares(claim: Claim, paper: Paper, method: str, baseline: str) -> bool:
    assert claim.test is not None
    compared = [] if isinstance(claim.test, OnReported) else measures(claim.test)
    return (
        {measure.arm for measure in compared if not measure.real} == {method, baseline}
        and len({measure.metric for measure in compared}) == 1
        and not paper.metric(compared[0]).exact
    )


def count(verdicts: Iterable[Verdict], paper: Paper) -> Null:
    """How often the claims of a `planted` page came out decided.

    Args:
        verdicts: of that page. Those without an interval (arms without results, ties) are no comparisons.
    """
    from scipy.stats import binom  # here, because `make list` starts without scipy

    tests = {claim.id: claim.test for claim in paper.claims}
    compared = [verdict for verdict in verdicts if verdict.low is not None and verdict.low != verdict.high]
    statuses = [verdict.status for verdict in compared]
    wrong = 0
    for verdict in compared:
        test = tests[verdict.claim]
        if test is not None and verdict.status != "untested":
            wrong += not holds(verdict.status, 1.0 if isinstance(test, Ratio) else 0.0, test)
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
