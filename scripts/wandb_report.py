"""Compare a paper's arms from what W&B logged, beside the figures that the paper reports; one report per scale.

    python -m scripts.wandb_report mobilesam             a W&B report of the online runs (needs `wandb login`)
    python -m scripts.wandb_report mobilesam --offline   the same of offline runs, as an HTML page, without a server

Runs that were logged offline are sent to W&B, as often as one likes, with

    wandb sync runs/mobilesam/*/*/seed*/wandb/offline-run-*

The same as: make dashboard PAPER=mobilesam [OFFLINE=1]
"""

import argparse
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.judging.formats import as_reported, mean_spread
from benchmarks.judging.tables import Metric, Paper
from benchmarks.report import REPORTS, SCALE_NOTES, TEMPLATES, write_html
from benchmarks.running import recipes
from benchmarks.showing.charts import COLOURS, Line, line_chart
from common.errors import UserError, refuse_control_in, unknown, user_errors
from common.paths import runs_folder, user_path
from common.recipe import SCALES, Arm, Scale
from common.training.tracking import PROJECT, wandb_mode
from scripts.wandb_runs import STEP, LoggedRun, offline, online


@dataclass(frozen=True)
class Bar:
    """An arm's final figure: its values over the seeds, and what the paper reports (nothing known: empty)."""

    arm: str
    colour: int
    values: list[float]
    reported: list[float]
    text: str
    reported_text: str


@dataclass(frozen=True)
class Final:
    """A metric of the paper's page, `name` as it was logged ("test/miou"), with a bar for every arm that has it."""

    name: str
    metric: Metric
    bars: list[Bar]


@dataclass(frozen=True)
class Curve:
    """A metric that was logged while training, with a line for every arm and level lines for what the paper reports."""

    name: str
    lines: list[Line]
    references: list[Line]


@dataclass(frozen=True)
class Comparison:
    """All that the report of one scale shows; `commits` are the source code's, with a link where its host is known."""

    paper: Paper
    scale: str
    final: list[Final]
    curves: list[Curve]
    commits: dict[str, str | None]

    @property
    def note(self) -> str:
        return SCALE_NOTES[self.scale.split("-")[0]]

    @property
    def arms(self) -> list[str]:
        """Every arm that something was logged of."""
        names = [bar.arm for final in self.final for bar in final.bars]
        return list(dict.fromkeys(names + [line.name for curve in self.curves for line in curve.lines]))


def compare(paper: Paper, arms: dict[str, Arm], scale: str, runs: list[LoggedRun]) -> Comparison:
    """Arms side by side: final figures of each arm's last stage, and the curves of all that was trained."""
    final = []
    for metric in sorted(paper.metrics.values(), key=lambda metric: not metric.main):
        names: list[str] = []
        bars = []
        for number, (arm, recipe) in enumerate(arms.items()):
            own = [run.summary for run in runs if run.arm == arm and run.stage == recipe.stages[-1].name]
            found = [(name, value) for summary in own for name, value in summary.items() if _plain(name) == metric.name]
            names += [name for name, _ in found]
            if found:
                bars.append(_bar(paper, arm, number % COLOURS, metric, [value for _, value in found]))
        if bars:
            final.append(Final(names[0], metric, bars))
    curves = []
    for name in sorted({name for run in runs for name, points in run.curves.items() if len(points) > 1}):
        lines = []
        for number, (arm, recipe) in enumerate(arms.items()):
            seeds = [sorted(run.curves[name].items()) for run in runs if run.arm == arm and name in run.curves]
            if seeds:
                lines.append(Line(arm, number, seeds, recipe.method))
        if lines:
            curves.append(Curve(name, lines, _references(paper, name, lines)))
    commits = {run.commit: commit_link(run.remote, run.commit) for run in runs if run.commit}
    return Comparison(paper, scale, final, curves, commits)


def _plain(name: str) -> str:
    """`miou` of `test/miou`."""
    return name.split("/", 1)[1]


def _bar(paper: Paper, arm: str, colour: int, metric: Metric, values: list[float]) -> Bar:
    reported = [found for found in paper.reported(arm, metric.name) if found.low is not None]
    ends = sorted({end for found in reported for end in (found.low, found.high) if end is not None})
    said = " to ".join(as_reported(end, metric) for end in dict.fromkeys((ends[0], ends[-1]))) if ends else ""
    sources = ", ".join(dict.fromkeys(str(found.table.source) for found in reported))
    return Bar(arm, colour, values, ends, mean_spread(values, metric), f"{said}, {sources}" if said else "")


def _references(paper: Paper, name: str, lines: list[Line]) -> list[Line]:
    """The paper's figures for a curve's metric as level lines, dashed, in the arm's colour."""
    last = max(step for line in lines for points in line.seeds for step, _ in points)
    references = []
    for line in lines:
        for found in paper.reported(line.name, _plain(name)):
            if found.high is not None:
                level = [(0.0, found.high), (last, found.high)]
                references.append(Line(f"{line.name}, {found.table.source}", line.colour + COLOURS, [level]))
    return references


def commit_link(remote: str, commit: str) -> str | None:
    """The page of a commit where the code was cloned from; None where that has none."""
    if found := re.fullmatch(r"(?:https?://(?:[^/@]*@)?|ssh://git@|git@)([^/:]+)[/:](.+?)(?:\.git)?/?", remote):
        return f"https://{found[1]}/{found[2]}/commit/{commit}"
    return None


def shares(bars: list[Bar]) -> list[dict[str, float | None]]:
    """Lengths of bars, and places of the reported figures, in per cent of the widest."""
    widest = max((abs(value) for bar in bars for value in (*bar.values, *bar.reported)), default=0) or 1

    def share(value: float) -> float:
        return round(100 * max(value, 0) / widest, 2)

    return [
        {"mean": share(statistics.fmean(bar.values)), "reported": share(bar.reported[-1]) if bar.reported else None}
        for bar in bars
    ]


def html(comparison: Comparison) -> str:
    """The comparison as a page that holds its style and charts, loads nothing and runs no script."""
    loader = FileSystemLoader([Path(__file__).resolve().parent, TEMPLATES])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    charts = [line_chart([*curve.lines, *curve.references], curve.name) for curve in comparison.curves]
    return environment.get_template("wandb_report.html").render(
        paper=comparison.paper, view=comparison, charts=charts, shares=shares
    )


def table(comparison: Comparison) -> str:
    """The final figures as a Markdown table, the reported ones in brackets."""
    rows = ["| arm | " + " | ".join(final.metric.label for final in comparison.final) + " |"]
    rows += ["|---" * (len(comparison.final) + 1) + "|"]
    for arm in comparison.arms:
        cells = [arm]
        for final in comparison.final:
            texts = [f"{bar.text} (paper: {bar.reported_text})" for bar in final.bars if bar.arm == arm]
            cells.append(texts[0].removesuffix(" (paper: )") if texts else "–")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def wandb_report(comparison: Comparison, entity: str) -> Any:
    """The comparison as a W&B report, not saved yet: `wandb_workspaces.reports.v2.Report`."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    paper, scale = comparison.paper, comparison.scale

    def runsets() -> list[Any]:
        return [
            wr.Runset(
                entity=entity,
                project=PROJECT,
                name=arm,
                filters=[expr.Metric("Group") == f"{paper.paper}/{scale}", expr.Tags().isin([arm])],
                groupby=["jobType"],
            )
            for arm in comparison.arms
        ]

    bars = [
        wr.BarPlot(
            title=final.metric.label,
            metrics=[final.name],
            custom_expressions=_levels(final.name, [value for bar in final.bars for value in bar.reported]),
        )
        for final in comparison.final
    ]
    lines = [
        wr.LinePlot(
            title=curve.name,
            x=STEP,
            y=[curve.name],
            custom_expressions=_levels(curve.name, [line.seeds[0][0][1] for line in curve.references]),
        )
        for curve in comparison.curves
    ]
    commits = ", ".join(f"[{commit[:10]}]({link})" if link else commit for commit, link in comparison.commits.items())
    return wr.Report(
        project=PROJECT,
        entity=entity,
        title=f"{paper.short_title}, {scale} scale",
        description=paper.summary,
        width="fluid",
        blocks=[
            wr.MarkdownBlock(text=f"{comparison.note}\n\nSource code: {commits or 'unknown'}\n\n{table(comparison)}"),
            wr.H2(text="Final figures"),
            wr.PanelGrid(runsets=runsets(), panels=bars),
            wr.H2(text="Learning curves"),
            wr.PanelGrid(runsets=runsets(), panels=lines),
        ],
    )


def _levels(name: str, values: list[float]) -> list[str] | None:
    """W&B draws no level line by itself: an expression that comes to the same value wherever the metric has one."""
    return [f"${{{name}}} * 0 + {value:g}" for value in dict.fromkeys(values)] or None


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.wandb_report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paper", help="a recipe's name")
    parser.add_argument("--scale", default="", help="only this scale (default: all that have runs)")
    parser.add_argument("--offline", action="store_true", help="read the run folders' offline files, write HTML pages")
    parser.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or runs)")
    parser.add_argument("--entity", default="", help="W&B user or team (default: yours)")
    parser.add_argument("--output", default=str(REPORTS), help="folder of the HTML pages (default: reports)")
    options = parser.parse_args(arguments)
    refuse_control_in(options)
    write(options)
    return 0


def write(options: argparse.Namespace) -> None:
    """Write a report for every scale that has runs."""
    recipe = recipes.load(options.paper)
    if not options.offline and wandb_mode() != "online":
        raise UserError(
            "W&B's server is out of reach: nobody is logged in (`wandb login`), there is no network, or WANDB_MODE "
            "says so. --offline (OFFLINE=1) compares the runs that were logged offline."
        )
    if options.offline:
        folder = (user_path(options.runs) if options.runs else runs_folder()) / options.paper
        runs = offline(folder)
        where = f"in {folder.absolute()}"
    else:
        import wandb

        options.entity = options.entity or wandb.Api().default_entity
        where = f"in {options.entity}/{PROJECT}"
        try:
            runs = online(options.entity, options.paper)
        except (wandb.Error, ValueError) as error:
            raise UserError(f"W&B gives no runs {where}: {error}") from error
    scales = sorted({run.scale for run in runs if run.paper == options.paper and run.scale.split("-")[0] in SCALES})
    if not scales:
        raise UserError(f"W&B has no runs of {options.paper} {where}: make reproduce PAPER={options.paper} makes some.")
    if options.scale and options.scale not in scales:
        raise unknown("scale", options.scale, scales)
    for scale in [options.scale] if options.scale else scales:
        name: Scale = scale.split("-")[0]  # type: ignore[assignment]
        arms = recipe.arms(name)
        paper = recipes.page(options.paper)
        comparison = compare(paper, arms, scale, [run for run in runs if run.scale == scale])
        if options.offline:
            file = user_path(options.output) / f"{options.paper}.{scale}.wandb.html"
            write_html(file, html(comparison))
            print(file)
        else:
            print(wandb_report(comparison, options.entity).save().url)


if __name__ == "__main__":
    sys.exit(main())
