"""Charts that stages leave in their run folders, drawn by matplotlib for light and for dark pages.

    chart = line_chart([Line(steps, losses, "student")], "step", "loss")
    save_picture(self.run_dir, "loss", chart, "The student's loss")

Sizes are in pixels, and letters as large as the report's. Charts of one height stand in a row: `side_by_side`.
"""

# matplotlib is imported when something is drawn: commands that draw nothing start without it
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.visual import Themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 100
SIZE = (460, 300)
Ticks = Mapping[float, str]


class Theme(NamedTuple):
    """Colours of the report's pages."""

    paper: str
    ink: str
    pale: str
    colours: tuple[str, ...]
    map: tuple[str, str]
    """Of 0 and of 1 in a heat map."""


LIGHT = Theme(
    "#ffffff", "#1b2430", "#dde2e8",
    ("#0b62c4", "#c2410c", "#15803d", "#7e3bb5", "#8a6500", "#0e7c86", "#bf2577", "#5f6b7a"),
    ("#ffffff", "#0b3f86"),
)  # fmt: skip
DARK = Theme(
    "#1a2029", "#e6eaf0", "#323b47",
    ("#6cb2ff", "#ff9a5c", "#5fd38a", "#c79bff", "#e6c14a", "#4fd0dc", "#ff8cc4", "#a8b3c2"),
    ("#1a2029", "#a9d2ff"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of a chart. Lines of one name have one colour and one entry in the legend.

    Attributes:
        x, y: its points.
        name: in the legend.
        low, high: bounds of a band around it, as long as `y`.
        words: beside each of its points.
        dots: mark the points.
        faint: one of many, drawn thin.
    """

    x: Sequence[float]
    y: Sequence[float]
    name: str = ""
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    words: Sequence[str] = ()
    dots: bool = False
    faint: bool = False


def line_chart(
    lines: Sequence[Line],
    across: str,
    up: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    limits: tuple[float, float] | None = None,
    ticks: Ticks | None = None,
    mark: float | None = None,
    size: tuple[int, int] = SIZE,
) -> Themed:
    """Lines with their bands, dots and words.

    Args:
        limits: of the vertical axis; what is outside is cut off.
        ticks: places on the horizontal axis, and what stands there.
        mark: a dashed vertical line here.
    """

    def paint(axes: Axes, theme: Theme) -> None:
        names = list(dict.fromkeys(line.name for line in lines))
        for number, line in enumerate(lines):
            colour = theme.colours[names.index(line.name) % len(theme.colours)]
            label = line.name if line.name not in [other.name for other in lines[:number]] else None
            (drawn,) = axes.plot(line.x, line.y, color=colour, label=label, linewidth=0.9 if line.faint else 2.0)
            drawn.set(alpha=0.6 if line.faint else 1.0, marker="o" if line.dots else "", markersize=5)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
            above = names.index(line.name) % 2 == 0  # words of neighbouring lines keep out of each other's way
            for x, y, word in zip(line.x, line.y, line.words, strict=False):
                offset, side, place = ((-5, 4), "right", "bottom") if above else ((5, -4), "left", "top")
                axes.annotate(
                    word, (x, y), offset, textcoords="offset points", ha=side, va=place, color=colour, fontsize=9
                )
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        if limits is not None:
            axes.set_ylim(*limits)
        elif any(line.words for line in lines):
            axes.margins(x=0.14, y=0.12)
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
            axes.minorticks_off()
        if mark is not None:
            axes.axvline(mark, color=theme.ink, linestyle="--", linewidth=1)
        axes.grid(True)
        if any(names):
            _legend(axes, len(names))
        _words(axes, across, up, title)

    return _draw(paint, size)


def bar_chart(
    bars: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    across: str,
    up: str,
    title: str = "",
    size: tuple[int, int] = SIZE,
) -> Themed:
    """A bar for each named series in each group, from 0 on."""

    def paint(axes: Axes, theme: Theme) -> None:
        width = 0.8 / len(bars)
        for number, (name, heights) in enumerate(bars.items()):
            places = np.arange(len(groups)) + (number - (len(bars) - 1) / 2) * width
            axes.bar(places, heights, width * 0.92, color=theme.colours[number % len(theme.colours)], label=name)
        axes.set_xticks(range(len(groups)), groups)
        axes.grid(True, axis="y")
        if len(bars) > 1:
            _legend(axes, len(bars))
        _words(axes, across, up, title)

    return _draw(paint, size)


def histogram(values: np.ndarray, across: str, title: str = "", bins: int = 60, size: tuple[int, int] = SIZE) -> Themed:
    """How often values of any shape occur."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.hist(np.ravel(values), bins, color=theme.colours[0])
        axes.grid(True, axis="y")
        _words(axes, across, "number", title)

    return _draw(paint, size)


def heat_map(
    values: np.ndarray,
    across: str,
    down: str,
    title: str = "",
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    framed: Sequence[tuple[int, int]] = (),
    size: tuple[int, int] = SIZE,
) -> Themed:
    """A matrix [H, W] of values from 0 (the paper's colour) to 1 (the strongest), row 0 on top.

    Args:
        columns, rows: names of all of them; the cells then say their values.
        framed: cells (row, column) to point out.
    """

    def paint(axes: Axes, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        shades = LinearSegmentedColormap.from_list("shades", theme.map)
        axes.imshow(values, shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        if columns is not None and rows is not None:
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(rows)), rows)
            axes.tick_params(length=0)
            for (row, column), value in np.ndenumerate(values):
                colour = theme.map[0] if value > 0.6 else theme.ink
                axes.text(column, row, f"{value:.2f}", color=colour, ha="center", va="center")
        for row, column in framed:
            axes.add_patch(
                Rectangle(
                    (column - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=theme.colours[1], linewidth=2.5
                )
            )
        _words(axes, across, down, title)

    return _draw(paint, size)


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    across: str,
    up: str,
    title: str = "",
    colour: int = 0,
    size: tuple[int, int] = SIZE,
) -> Themed:
    """A dot for each (x, y), in the given one of the eight colours; where many lie, it is darker."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.scatter(x, y, s=9, color=theme.colours[colour % len(theme.colours)], alpha=0.55, linewidths=0)
        axes.grid(True)
        _words(axes, across, up, title)

    return _draw(paint, size)


def side_by_side(*panels: Themed) -> Themed:
    """Charts of one height in a row."""
    return Themed(np.concatenate([p.light for p in panels], 1), np.concatenate([p.dark for p in panels], 1))


def _legend(axes: Axes, entries: int) -> None:
    """Above the plot, where it hides nothing: as many beside each other as fit."""
    axes.figure.legend(loc="outside upper left", ncols=min(entries, 2), frameon=False, fontsize=9, borderpad=0.2)


def _words(axes: Axes, across: str, up: str, title: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")


def _draw(paint: Callable[[Axes, Theme], None], size: tuple[int, int]) -> Themed:
    return Themed(_render(paint, LIGHT, size), _render(paint, DARK, size))


def _render(paint: Callable[[Axes, Theme], None], theme: Theme, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [H, W, 3]. No backend is chosen, and matplotlib's settings are as they were."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = {
        "figure.facecolor": theme.paper, "axes.facecolor": theme.paper, "axes.edgecolor": theme.ink,
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "xtick.color": theme.ink, "ytick.color": theme.ink,
        "grid.color": theme.pale, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "font.size": 10, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
    }  # fmt: skip
    with matplotlib.style.context(["default", settings]):
        figure = Figure((size[0] / DPI, size[1] / DPI), DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure.add_subplot(), theme)
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
