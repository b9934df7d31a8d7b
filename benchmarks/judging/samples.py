"""What a results file holds for a test: figures by seed, paired by the seed's number, and the effect for each seed."""

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.judging.forms import Measure, Metric, Ratio, Test, measures
from benchmarks.judging.looks import Plan
from benchmarks.judging.tables import Paper
from benchmarks.judging.wording import reduces


@dataclass(frozen=True)
class Sample:
    """The figures that a test compares, by seed.

    Attributes:
        columns: each measure's figures by seed, in the order of the seeds' numbers.
        seeds: those that all columns have; only the first where all seeds share the figures.
        effects: for each of these seeds, up to the first one that has none.
        shared: names of stages that all seeds share.
        one_run: whether all stages are shared.
    """

    columns: list[dict[int, float]]
    seeds: list[int]
    effects: list[float]
    shared: tuple[str, ...]
    one_run: bool


def sample(test: Test, found: dict[str, Any], paper: Paper, networks: dict[str, dict[str, float]]) -> Sample:
    """What a results file holds for a test.

    A seed has no effect where a figure is not finite, or not positive where a ratio is asked for.
    """
    compared = measures(test)
    columns, stages = [], []
    for measure in compared:
        if measure.real:
            entry: dict[str, Any] = {"seeds": {"0": networks.get(measure.arm, {})}}
        else:
            entry = found["arms"].get(measure.arm, {"seeds": {}})
        figures = {int(seed): row[measure.metric] for seed, row in entry["seeds"].items() if measure.metric in row}
        columns.append(dict(sorted(figures.items())))
        stages.append(entry.get("stages", []))
    one_run = all(arm and all(stage.get("shared") for stage in arm) for arm in stages)
    seeds = [seed for seed in columns[0] if all(seed in column for column in columns)][: 1 if one_run else None]
    effects = []
    for seed in seeds:
        values = [column[seed] for column in columns]
        if not all(map(math.isfinite, values)) or (isinstance(test, Ratio) and min(values) <= 0):
            break
        effects.append(_effect(test, values, paper.metric(compared[0])))
    shared = dict.fromkeys(stage["stage"] for arm in stages for stage in arm if stage.get("shared"))
    return Sample(columns, seeds, effects, tuple(shared), one_run)


def _effect(test: Test, values: list[float], metric: Metric) -> float:
    """The effect for one seed, from the figures of the claim's one or two arms."""
    if isinstance(test, Ratio):
        return values[0] / values[1]
    if reduces(test, metric):
        return values[1] - values[0]
    return values[0] - values[1] if len(values) == 2 else values[0]


def absent(compared: list[Measure], metrics: list[Metric], there: Sample, measured: dict[str, Any]) -> str | None:
    """Why there is nothing to compare; `measured`: the arms, or networks, that there are."""
    absent = list(dict.fromkeys(measure.arm for measure in compared if measure.arm not in measured))
    if absent and compared[0].real:
        return f"{' and '.join(absent)}: not measured yet, run make speed"
    if absent:
        arms = f"arm {absent[0]} has" if len(absent) == 1 else f"arms {' and '.join(absent)} have"
        return f"{arms} no results: not run, or failed"
    for column, measure, metric in zip(there.columns, compared, metrics, strict=True):
        if not column:
            return f"{metric.label} was not measured for arm {measure.arm}"
    if not there.seeds:
        return f"arms {compared[0].arm} and {compared[-1].arm} have no seed in common"
    return None


def unusable(test: Test, metrics: list[Metric], there: Sample, plan: Plan) -> str | None:
    """Why a seed has no effect; looks that end before that seed may still be made."""
    for column, measure, metric in zip(there.columns, measures(test), metrics, strict=True):
        seeds = list(column) if plan == "fixed" else there.seeds
        wrong = [str(seed) for seed in seeds if not math.isfinite(column[seed])]
        if wrong:
            numbers = f"seed{'s' if len(wrong) > 1 else ''} {', '.join(wrong)}"
            return f"{metric.label} of arm {measure.arm} is not finite for {numbers}"
        if isinstance(test, Ratio) and any(column[seed] <= 0 for seed in seeds):
            return f"{metric.label} of arm {measure.arm} is not positive, so that no ratio can be taken"
    return None
