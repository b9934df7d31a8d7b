"""Results in the terminal: what was measured beside what the paper reports, then a verdict for every claim."""

import math
import statistics
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.judging.formats import as_reported, mean_spread
from benchmarks.judging.tables import Metric, Paper, Reported, Source
from benchmarks.showing.compare import WORDS, compare, figures
from benchmarks.showing.outlook import outlook

STYLES = {
    "confirmed": "bold green",
    "refuted": "bold red",
    "no difference": "bold cyan",
    "inconclusive": "bold yellow",
    "untested": "dim",
}
SCALE_NOTES = {
    "mini": "other data and smaller models than the paper's: its figures are for orientation, not comparable",
    "small": "public data and small pretrained models, not the paper's: docs/small.md says what they compare with",
    "rehearsal": "two steps on stand-ins, to show that the paper's configs run: the figures mean nothing",
    "paper": "the paper's own data and models",
}


def print_results(
    found: dict[str, Any], paper: Paper, console: Console, reference: dict[str, Any] | None = None
) -> None:
    """Print the table of main metrics and the verdicts; reads well in a pipe, from 80 columns on.

    Args:
        found: a results file's content with its verdicts; of its arms, those to be shown.
        reference: the committed results, with their verdicts.
    """
    label = found["scale"] if found["data"] == "default" else f"{found['scale']}, data {found['data']}"
    label += ", a pilot" if is_pilot(found) else ""
    _print(console, Text.assemble((f"{paper.short_title} at {label} scale", "bold"), f": {seed_note(found)}"))
    metrics = [metric for metric in paper.metrics.values() if metric.main] or list(paper.metrics.values())
    notes: list[Source] = []
    for columns in _columns_that_fit(found, paper, metrics, console, reference):
        _print(console, measured_table(found, paper, columns, notes, reference))
    if shared := shared_stages(found):
        _print(console, Text(f"one run for all seeds, whose luck no spread includes: {', '.join(shared)}", "dim"))
    if any(_leader(found["arms"], metric) for metric in metrics):
        _print(console, Text("* best of the column", "dim"))
    if notes:
        sources = "; ".join(f"[{number}] {source}" for number, source in enumerate(notes, 1))
        _print(console, Text(f"paper: as reported in {sources}; ? not known, – not reported", "dim"))
        _print(console, Text(f"{found['scale']} scale: {SCALE_NOTES[found['scale']]}", "dim"))
    _print(console, Text())
    print_verdicts(found, paper, console)
    if reference:
        compared = compare(found, reference)
        _print(console, Text.assemble(("reference", "bold"), f": {compared.sentence()}"))
        places = Counter(figures(found, reference, metrics).values())
        said = ", ".join(f"{places[place]} {words}" for place, words in WORDS.items() if places[place])
        _print(console, Text(f"main figures: {said}" if said else "no main figure stands in both", "dim"))


def is_pilot(found: dict[str, Any]) -> bool:
    """Whether results are of seeds that only serve to choose settings."""
    plan = found.get("plan")
    return isinstance(plan, list) and bool(plan) and plan[0] > 0


def shared_stages(found: dict[str, Any]) -> list[str]:
    """Stages that ran once for all seeds and that others read from."""
    chains = [arm.get("stages", []) for arm in found["arms"].values()]
    names = [stage["stage"] for chain in chains for stage in chain[:-1] if stage.get("shared")]
    return list(dict.fromkeys(names))


def print_outlook(found: dict[str, Any], paper: Paper, console: Console) -> None:
    """What more seeds would decide, and how long they take here."""
    if line := outlook(found, paper):
        _print(console, Text(line, "dim"))


def seed_note(found: dict[str, Any]) -> str:
    """How many seeds the figures rest on, and what the spread is."""
    counts = {len(arm["seeds"]) for arm in found["arms"].values()}
    if counts == {1}:
        return "one seed, so no spread"
    seeds = f"{min(counts)} to {max(counts)} seeds" if len(counts) > 1 else f"{max(counts)} seeds"
    return f"mean ± sample standard deviation over {seeds}"


def measured_table(
    found: dict[str, Any],
    paper: Paper,
    metrics: list[Metric],
    notes: list[Source],
    reference: dict[str, Any] | None = None,
) -> Table:
    """A row per arm, and below it the reference's figures and, where the paper reports anything for it, the paper's.

    Args:
        notes: sources of reported figures; a figure's number is its source's place in it. New ones are added.
    """
    arms = found["arms"]
    several = len({len(arm["seeds"]) for arm in arms.values()}) > 1
    rows: list[list[Text]] = []
    for name, arm in arms.items():
        row = [Text(name + (f" ({len(arm['seeds'])} seeds)" if several else ""), "bold" if arm["method"] else "")]
        for metric in metrics:
            best = name == _leader(arms, metric)
            shown = mean_spread(values(arm, metric), metric)
            row.append(Text(f"{shown}{' *' if best else '  '}", "bold green" if best else ""))
        rows.append(row)
        if reference and (before := reference["arms"].get(name)):
            theirs = [values(before, metric) for metric in metrics]
            beside = [mean_spread(own, metric) if own else "–" for own, metric in zip(theirs, metrics, strict=True)]
            rows.append([Text("  reference", "dim"), *(Text(f"{cell}  ", "dim") for cell in beside)])
        reported = [paper.reported(name, metric.name) for metric in metrics]
        if any(reported):
            figures = [_reported(tables, metric, notes) for tables, metric in zip(reported, metrics, strict=True)]
            rows.append([Text("  paper", "dim"), *(Text(text, "dim") for text in figures)])
    heads = ["arm", *map(heading, metrics)]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for head, *cells in zip(heads, *rows, strict=True):
        lines = [line for cell in cells for line in cell.plain.split("\n")]
        width = max(map(len, [*head.split(), *lines]))  # headers wrap, figures do not
        table.add_column(head, justify="left" if head == "arm" else "right", width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _columns_that_fit(
    found: dict[str, Any], paper: Paper, metrics: list[Metric], console: Console, reference: dict[str, Any] | None
) -> list[list[Metric]]:
    """Metrics in groups whose tables are no wider than the console."""
    groups: list[list[Metric]] = [[]]
    for metric in metrics:
        columns = measured_table(found, paper, [*groups[-1], metric], [], reference).columns
        if groups[-1] and sum((column.width or 0) + 2 for column in columns) > console.width:
            groups.append([])
        groups[-1].append(metric)
    return groups


def heading(metric: Metric) -> str:
    """A metric's label behind an arrow to where it is better."""
    return {"higher": "↑ ", "lower": "↓ ", None: ""}[metric.better] + metric.label


def values(arm: dict[str, Any], metric: Metric) -> list[float]:
    """An arm's figures, one a seed that has one."""
    return [seed[metric.name] for seed in arm["seeds"].values() if metric.name in seed]


def _leader(arms: dict[str, Any], metric: Metric) -> str | None:
    """The arm with the best mean; None where no direction is better, or where several arms share the best."""
    means = {name: statistics.fmean(own) for name, arm in arms.items() if (own := values(arm, metric))}
    means = {name: mean for name, mean in means.items() if math.isfinite(mean)}
    if metric.better is None or len(means) < 2:
        return None
    best = (max if metric.better == "higher" else min)(means.values())
    leaders = [name for name, mean in means.items() if mean == best]
    return leaders[0] if len(leaders) == 1 else None


def _reported(tables: list[Reported], metric: Metric, notes: list[Source]) -> str:
    """The paper's figures, a line per table: `0.71 to 0.74 [2]`."""
    lines = []
    for entry in tables:
        if entry.table.source not in notes:
            notes.append(entry.table.source)
        if entry.low is None or entry.high is None:
            text = "?"
        elif entry.low == entry.high:
            text = as_reported(entry.low, metric)
        else:
            text = f"{as_reported(entry.low, metric)} to {as_reported(entry.high, metric)}"
        lines.append(f"{text} [{notes.index(entry.table.source) + 1}]")
    return "\n".join(lines) or "–  "


def print_verdicts(found: dict[str, Any], paper: Paper, console: Console) -> None:
    """A line that counts them, each tested claim with its text and reason, and why the others were not tested."""
    counts = Counter(verdict["status"] for verdict in found["verdicts"])
    _print(console, Text.assemble(("claims", "bold"), f": {count_statuses(counts)}"))
    claims = {claim.id: claim for claim in paper.claims}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    untested: dict[str, list[str]] = {}
    for verdict in found["verdicts"]:
        if verdict["status"] == "untested":
            untested.setdefault(verdict["reason"], []).append(verdict["claim"])
        else:
            text = f"{verdict['claim']}: {claims[verdict['claim']].text}\n"
            table.add_row(
                Text(verdict["status"], STYLES[verdict["status"]]), Text.assemble(text, (verdict["reason"], "dim"))
            )
    for reason, names in untested.items():
        table.add_row(Text("untested", STYLES["untested"]), Text(f"{', '.join(names)}: {reason}", "dim"))
    _print(console, table)


def count_statuses(counts: Counter[str]) -> str:
    """`5 confirmed, 1 refuted, 2 inconclusive`."""
    return ", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status]) or "none"


def _print(console: Console, content: Text | Table) -> None:
    """Wrapped at the console's width, also where the console does not wrap what else it prints."""
    console.print(content, soft_wrap=False)
