"""Verdicts in words: `decoupled 0.712 vs coupled 0.620: difference +0.092 [0.050, 0.134]`."""

import statistics

from benchmarks.judging.formats import as_reported, figure, interval
from benchmarks.judging.forms import (
    Better,
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
    measures,
)
from benchmarks.judging.tables import Paper

TAKEN = {"difference": "difference {}", "ratio": "ratio {}", "percent_less": "{} % less", "percent_more": "{} % more"}


def effect_name(test: Test, paper: Paper) -> str:
    """What a verdict estimates: `mIoU, decoupled − coupled`."""
    if isinstance(test, OnReported):
        return "the paper's own figures"
    compared = measures(test)
    if len(compared) == 1:
        return f"{paper.metric(compared[0]).label}, {compared[0].arm}"
    if reduces(test, paper.metric(compared[0])):
        compared.reverse()
    first, second = compared
    sign = "/" if isinstance(test, Ratio) else "−"
    names = [paper.metric(measure).label for measure in compared]
    if first.metric == second.metric:
        return f"{names[0]}, {first.arm} {sign} {second.arm}"
    return f"{names[0]} of {first.arm} {sign} {names[1]} of {second.arm}"


def reduces(test: Test, metric: Metric) -> bool:
    """Whether the effect is by how much less the first arm has, because less is better."""
    return isinstance(test, Better | NotWorse | NotBetter) and metric.better == "lower"


def subject(test: Test, figures: list[list[float]], metrics: list[Metric]) -> str:
    """`decoupled 0.712 vs coupled 0.620: difference `; only the name of a single arm, whose figure is the effect."""
    compared: list[Measure] = measures(test)
    if len(compared) == 1:
        return f"{compared[0].arm} "
    means = [figure(statistics.fmean(values), metric) for values, metric in zip(figures, metrics, strict=True)]
    arms = [measure.arm for measure in compared]
    if metrics[0] != metrics[1]:
        arms = [f"{arm} ({metric.label})" for arm, metric in zip(arms, metrics, strict=True)]
    effect = "ratio" if isinstance(test, Ratio) else "reduction" if reduces(test, metrics[0]) else "difference"
    return f"{arms[0]} {means[0]} vs {arms[1]} {means[1]}: {effect} "


def effect_size(test: Test, estimate: float, ends: tuple[float, float] | None, metric: Metric) -> str:
    """The effect, with its interval where it has one."""
    if isinstance(test, Ratio):
        shown = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends and ends[0] != ends[1] else ""
        return f"{estimate:.3g}{shown}"
    sign = isinstance(test, Better | NotWorse | NotBetter | Within)
    return interval(estimate, *ends, metric, sign) if ends and ends[0] != ends[1] else figure(estimate, metric, sign)


def demanded(test: Test, metric: Metric) -> str:
    """What a claim asks for, where its text may not say it: `more than 0.05`."""
    if isinstance(test, Better):
        return f"more than {as_reported(test.margin, metric)}" if test.margin else ""
    if isinstance(test, NotWorse | NotBetter):
        side = "worse" if isinstance(test, NotWorse) else "better"
        return f"at most {as_reported(test.margin, metric)} {side}"
    if isinstance(test, Within):
        return f"at most {as_reported(test.delta, metric)} apart"
    if isinstance(test, Value | OnReported) and test.equals is not None:
        return f"{as_reported(test.equals, metric)}, give or take {as_reported(test.tolerance, metric)}"
    assert not isinstance(test, Value)
    side, bound = ("above", test.above) if test.below is None else ("below", test.below)
    assert bound is not None
    return f"{side} {f'{bound:.6g}' if isinstance(test, Ratio) else as_reported(bound, metric)}"


def too_small(test: Test, metric: Metric) -> str:
    """The smallest effect of interest: `less than 0.01 of interest`."""
    assert not isinstance(test, NotBetter | NotWorse | OnReported | Value | Within) and test.smallest is not None
    if isinstance(test, Ratio):
        return f"within {100 * test.smallest:.4g} % of 1"
    where = "" if isinstance(test, Better) else " from the bound"
    return f"less than {as_reported(test.smallest, metric)}{where}"


def arithmetic(test: OnReported) -> str:
    """What the paper's own figures come to: `MobileSAM 9.66 vs SAM 615: 98.4 % less`."""

    def name(cell: Cell) -> str:
        return f"{cell.row}, {cell.column} {cell.value:.10g}"

    if test.to is None or test.take is None:
        return name(test.cell)
    return f"{name(test.cell)} vs {name(test.to)}: {TAKEN[test.take].format(f'{test.figure():.4g}')}"
