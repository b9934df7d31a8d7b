"""Figures as people read them: `0.712 ± 0.013`, `5.74 M`, `8.0 ms`. For the terminal, the verdicts and the reports."""

import math
import statistics
from collections.abc import Sequence

from benchmarks.judging.forms import Metric

SIZES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def figure(value: float, metric: Metric, sign: bool = False) -> str:
    """A measured figure with its metric's decimals and unit; `sign` writes the + of a difference too."""
    size, unit = _size_and_unit(value, metric)
    return _join(_number(value / size, metric, sign), unit)


def mean_spread(values: Sequence[float], metric: Metric) -> str:
    """Mean and sample standard deviation over seeds; a single value, or one that never varies, stands alone.

    Values that are not finite are left out and counted: `0.712 ± 0.013 (1 of 3 not finite)`.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "not finite" if values else "–"
    mean = statistics.fmean(finite)
    size, unit = _size_and_unit(mean, metric)
    number = _number(mean / size, metric)
    if len(set(finite)) > 1:
        number += f" ± {_number(statistics.stdev(finite) / size, metric)}"
    lost = len(values) - len(finite)
    return _join(number, unit) + (f" ({lost} of {len(values)} not finite)" if lost else "")


def interval(estimate: float, low: float, high: float, metric: Metric, sign: bool = False) -> str:
    """An estimate and its interval: `+0.092 [0.050, 0.134]`."""
    size, unit = _size_and_unit(max(estimate, low, high, key=abs), metric)
    ends = ", ".join(_number(end / size, metric) for end in (low, high))
    return _join(f"{_number(estimate / size, metric, sign)} [{ends}]", unit)


def as_reported(value: float, metric: Metric) -> str:
    """A figure with the digits that the paper gives, and the metric's unit."""
    size, unit = _size_and_unit(value, metric)
    return _join(f"{value / size:.10g}".replace("-", "−"), unit)


def _size_and_unit(value: float, metric: Metric) -> tuple[float, str]:
    """What to divide by, and what to write after the number."""
    if metric.unit != "count":
        return 1.0, metric.unit
    return next(((size, name) for size, name in SIZES if abs(value) >= size), (1.0, ""))


def _number(value: float, metric: Metric, sign: bool = False) -> str:
    """The metric's decimals; more where they would show a small number as zero, none for a small count."""
    if not math.isfinite(value):
        return "not finite"
    plus = "+" if sign else ""
    whole = metric.unit == "count" and value == round(value) and abs(value) < 1000
    text = f"{value:{plus}.{0 if whole else metric.decimals}f}"
    if value and not float(text):
        text = f"{value:{plus}.1g}"
    return text.replace("-", "−") if value else text.lstrip("-+")


def _join(number: str, unit: str) -> str:
    return f"{number}{unit}" if unit == "%" else f"{number} {unit}".rstrip()
