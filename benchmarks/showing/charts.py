"""Inline SVG for reports: learning curves and intervals, escaped. Colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 36
SHOWN = 120  # points of a curve; longer ones are averaged over neighbours
COLOURS = 8  # of the style sheet; more lines than that are told apart by dashes
DASHES = ("none", "6 3", "2 3")


@dataclass(frozen=True)
class Line:
    """A line of a chart: one series (step, value) per seed; `number` picks its colour and dashes."""

    name: str
    number: int
    seeds: list[Points]
    method: bool = False

    @property
    def colour(self) -> int:
        return self.number % COLOURS

    @property
    def dashes(self) -> str:
        return DASHES[self.number // COLOURS % len(DASHES)]


def short(value: float) -> str:
    """A number for an axis: `0.25`, `−1.5k`, `5.78M`."""
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{sign}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−") if value else "0"


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) between low and high, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis."""
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in found if low <= tick <= high]


def mean_and_range(seeds: list[Points]) -> list[tuple[float, float, float, float]]:
    """(step, mean, lowest, highest) over the seeds, neighbouring steps averaged where there are too many to draw."""
    by_step: dict[float, list[float]] = {}
    for points in seeds:
        for step, value in points:
            if math.isfinite(value):
                by_step.setdefault(step, []).append(value)
    rows = [(x, sum(ys) / len(ys), min(ys), max(ys)) for x, ys in sorted(by_step.items())]
    size = math.ceil(len(rows) / SHOWN)
    groups = [rows[start : start + size] for start in range(0, len(rows), size)] if rows else []
    return [tuple(sum(column) / len(group) for column in zip(*group, strict=True)) for group in groups]


def line_chart(lines: list[Line], description: str, across: str = "step") -> Markup:
    """Mean lines with the range of the seeds behind them; a logarithmic axis where values span a factor of 30."""
    drawn = [(line, rows) for line in lines if (rows := mean_and_range(line.seeds))]
    if not drawn:
        return Markup("")
    xs = [row[0] for _, rows in drawn for row in rows]
    ys = [value for _, rows in drawn for row in rows for value in row[2:]]
    left, right, low, high = min(0, *xs), max(xs), min(ys), max(ys)
    logarithmic = low > 0 and high / low >= 30
    if logarithmic:
        low, high = low / 1.1, high * 1.1
    else:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = low - margin, high + margin
    right = right if right > left else left + 1

    def x(step: float) -> float:
        return round(LEFT + (step - left) / (right - left) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for tick in decades(low, high) if logarithmic else ticks(low, high, 5):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{short(tick)}</text>'
        )
    for tick in ticks(left, right, 5):
        parts.append(f'<text x="{x(tick)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(tick)}</text>')
    axis = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    parts.append(
        f'{axis}<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>'
    )
    for line, rows in drawn:
        if len(line.seeds) > 1:
            edge = [f"{x(row[0])},{y(row[3])}" for row in rows] + [f"{x(row[0])},{y(row[2])}" for row in reversed(rows)]
            parts.append(f'<polygon class="band colour{line.colour}" points="{" ".join(edge)}"/>')
    for line, rows in sorted(drawn, key=lambda item: item[0].method):
        points = " ".join(f"{x(row[0])},{y(row[1])}" for row in rows)
        kind = f"line colour{line.colour}{' method' if line.method else ''}"
        parts.append(f'<polyline class="{kind}" stroke-dasharray="{line.dashes}" points="{points}"/>')
    ends = "; ".join(f"{line.name} ends at {rows[-1][1]:.4g}" for line, rows in drawn)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, f"{description}: {ends}.", Markup("".join(parts))
    )


def interval_chart(
    estimate: float, low: float, high: float, claimed: tuple[float, float], status: str, description: str
) -> Markup:
    """An interval on an axis; the claimed range is shaded, its finite ends are dashed lines."""
    width, height, line = 360, 62, 22
    ends = [end for end in claimed if math.isfinite(end)]
    values = [estimate, low, high, *ends]
    margin = 0.18 * (max(values) - min(values)) or 0.1 * abs(estimate) or 1.0
    start, stop = min(values) - margin, max(values) + margin

    def x(value: float) -> float:
        return round(8 + (min(max(value, start), stop) - start) / (stop - start) * (width - 16), 1)

    parts = [
        f'<rect class="claimed" x="{x(claimed[0])}" y="6" width="{x(claimed[1]) - x(claimed[0]):.1f}" height="32"/>',
        f'<line class="axis" x1="8" x2="{width - 8}" y1="38" y2="38"/>',
    ]
    parts += [f'<line class="threshold" x1="{x(end)}" x2="{x(end)}" y1="2" y2="38"/>' for end in ends]
    for tick in ticks(start, stop, 4):
        if not 20 < x(tick) < width - 20:  # its text would be cut off
            continue
        parts.append(f'<line class="axis" x1="{x(tick)}" x2="{x(tick)}" y1="38" y2="42"/>')
        parts.append(f'<text x="{x(tick)}" y="56" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<line class="interval" x1="{x(low)}" x2="{x(high)}" y1="{line}" y2="{line}"/>')
    parts += [f'<line class="cap" x1="{x(v)}" x2="{x(v)}" y1="{line - 6}" y2="{line + 6}"/>' for v in (low, high)]
    parts.append(f'<circle class="estimate" cx="{x(estimate)}" cy="{line}" r="5.5"/>')
    return Markup('<svg class="intervals {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        status.replace(" ", "-"), width, height, description, Markup("".join(parts))
    )
