"""Write the tables of the READMEs from what was measured, so that no figure is copied by hand.

    python -m scripts.readme_tables

The project's README has a table of recipes, docs/small.md one of those with SCALE=small. A recipe's README may have
blocks, filled between their marks:

    <!-- measured mini: mrr recall_1 -->     these metrics of every arm that has one of them, at that scale
    <!-- /measured -->
    <!-- verdicts mini mini-coco -->         every claim that one of these scales tests
    <!-- /verdicts -->
    <!-- planned a100-80g -->                what `make plan` says of the trainings at paper scale, on these GPUs
    <!-- /planned -->
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import catalogue
from benchmarks.judging.formats import mean_spread
from benchmarks.judging.tables import Claim, OnReported, Paper
from benchmarks.judging.verdict import effect_size, measures
from benchmarks.planning import stages
from benchmarks.planning.units import duration
from benchmarks.running import recipes, results
from benchmarks.showing.terminal import heading, values
from common.data.files import readable, text_of, write_atomic
from common.errors import UserError, user_errors
from common.training.runs import updating

README = recipes.ROOT / "README.md"
SMALL = recipes.ROOT / "docs" / "small.md"
BEGIN, END = "<!-- recipes: written by `python -m scripts.readme_tables` -->\n", "<!-- /recipes -->\n"
BLOCK = re.compile(r"(<!-- (measured|verdicts|planned) ([^>]*?) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)


def recipe_readmes() -> list[Path]:
    """Every recipe's README."""
    return [recipes.ROOT / "projects" / name / "README.md" for name in recipes.names()]


def updated(text: str, table: Callable[[], str] | None = None, file: Path = README) -> str:
    """The project's README, or another page, with its table as it must be now."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UserError(f"{file} has not one table between {BEGIN.strip()} and {END.strip()}: restore these marks")
    before, rest = text.split(BEGIN)
    return before + BEGIN + (table or recipe_table)() + END + rest.split(END)[1]


def recipe_table() -> str:
    """A row per recipe, with the verdicts of every results file; those at small scale in a column of their own."""
    rows = [row(["recipe", "paper", "about", "claims, by scale", "claims at small scale"]), row(["---"] * 5)]
    for name in recipes.names():
        paper = recipes.page(name)
        year = f"[{paper.year}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else str(paper.year)
        ran: dict[bool, list[str]] = {True: [], False: []}
        for label, file in results.references(name).items():
            ran[label.startswith("small")].append(f"{label}: {counts(file, paper)}")
        claims = ["<br>".join(ran[small]).removeprefix("small: ") for small in (False, True)]
        rows.append(row([f"[{name}](projects/{name})", f"{paper.short_title}, {year}", paper.modality, *claims]))
    return "\n".join(rows) + "\n"


def counts(file: Path, paper: Paper) -> str:
    """How often each verdict stands in a reference; UserError where it cannot be read."""
    return catalogue.counted(results.statuses(file, paper))


def small_table() -> str:
    """A row per recipe and data set at small scale: what it takes, and how long it took where it was measured."""
    rows = [row(["recipe", "models", "data", "processor time", "claims"]), row(["---"] * 5)]
    for name in recipes.names():
        if not (small := recipes.load(name).small):
            continue
        for data in ("", *small.others):
            download, label = small.chosen(data), f"small-{data}" if data else "small"
            models = "<br>".join(f"`{model.id}` ({model.licence})" for model in small.models)
            took, claims = "not measured yet", ""
            if found := results.read(results.reference(name, label)):
                took = f"{found['cpu_seconds'] / 60:.0f} min of one core"
                claims = counts(results.reference(name, label), recipes.page(name))
            what = f"{download.name} ({download.licence}){f', `DATA={data}`' if data else ''}"
            rows.append(row([f"[{name}](../projects/{name})", models, what, took, claims]))
    return "\n".join(rows) + "\n"


def filled(text: str, name: str) -> str:
    """A recipe's README with its blocks as they must be now: empty, where no scale of it has been measured yet, or not
    the small one, which takes longest.

    Raises:
        UserError: a block names a metric that the recipe's page has not, or a scale without results beside one with.
    """
    paper, there = recipes.page(name), results.references(name)

    def waits(label: str) -> bool:
        return not there or (label.startswith("small") and label not in there)

    def fill(block: re.Match[str]) -> str:
        begin, kind, words, _, end = block.groups()
        if kind == "measured":
            label, _, metrics = words.partition(":")
            if waits(label):
                return begin + end
            return begin + measured(measurements(paper, label), paper, metrics.split()) + end
        if kind == "planned":
            return begin + planned(name, words) + end
        shown = {label: measurements(paper, label) for label in words.split() if not waits(label)}
        return begin + (verdicts(shown, paper) if shown else "") + end

    return BLOCK.sub(fill, text)


def measurements(paper: Paper, label: str) -> dict[str, Any]:
    """The reference at a scale, judged by the present page."""
    found = results.read(results.reference(paper.paper, label))
    if found is None:
        raise UserError(f"projects/{paper.paper}/README.md shows {label}, of which benchmarks/results has nothing")
    return results.judged(found, paper)


def measured(found: dict[str, Any], paper: Paper, names: list[str]) -> str:
    """Mean and standard deviation over the seeds: a row per arm, a column per metric."""
    if absent := [name for name in names if name not in paper.metrics]:
        raise UserError(f"projects/{paper.paper}/README.md shows {', '.join(absent)}, unknown to the recipe's page")
    metrics = [paper.metrics[name] for name in names]
    heads = ["arm", *map(heading, metrics)]
    rows = [row(heads), row(["---"] * len(heads))]
    for arm, entry in found["arms"].items():
        figures = [values(entry, metric) for metric in metrics]
        if any(figures):
            cells = [mean_spread(own, metric) if own else "" for own, metric in zip(figures, metrics, strict=True)]
            rows.append(row([f"**`{arm}`**" if entry["method"] else f"`{arm}`", *cells]))
    return "\n".join(rows) + "\n"


def verdicts(found: dict[str, dict[str, Any]], paper: Paper) -> str:
    """A row per claim that is tested at one of the scales, a column per scale."""
    by_label = {label: {entry["claim"]: entry for entry in content["verdicts"]} for label, content in found.items()}
    rows = [row(["claim", *found]), row(["---"] * (len(found) + 1))]
    for claim in paper.claims:
        entries = [entries.get(claim.id, {"status": "untested"}) for entries in by_label.values()]
        if any(entry["status"] != "untested" for entry in entries):
            rows.append(row([f"**{claim.id}** {claim.text}", *(verdict(claim, entry, paper) for entry in entries)]))
    return "\n".join(rows) + "\n"


def verdict(claim: Claim, entry: dict[str, Any], paper: Paper) -> str:
    """`confirmed, +0.293 [0.260, 0.326]`."""
    if claim.test is None or entry["status"] == "untested":
        return ""
    if entry["estimate"] is None:
        return f"{entry['status']}: {entry['reason']}"
    ends = None if entry["low"] is None else (entry["low"], entry["high"])
    if isinstance(claim.test, OnReported):
        return f"{entry['status']}, {entry['estimate']:.3g} by the reported figures"
    metric = paper.metric(measures(claim.test)[0])
    return f"{entry['status']}, {effect_size(claim.test, entry['estimate'], ends, metric)}"


def planned(name: str, gpu: str) -> str:
    """A row per training at paper scale that costs anything of its own."""
    rows = [row(["stage", "GPUs", "batch", "memory of a GPU", "one run", "arms"]), row(["---"] * 6)]
    for stage in stages.plan(name, gpu, runs=None):
        if stage.run == "fit":
            batch = " x ".join(str(n) for n in (stage.devices, stage.accumulate, stage.batch) if n > 1) or "1"
            arms = ", ".join(f"`{arm}`" for arm in stage.arms)
            size = f"{stage.peak / 1e9:.0f} GB"
            rows.append(row([f"`{stage.stage}`", f"{stage.devices} {gpu}", batch, size, duration(stage.seconds), arms]))
    return "\n".join(rows) + "\n"


def row(cells: list[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def renew() -> None:
    """Write all blocks of all READMEs, and the table of docs/small.md."""
    write_atomic(README, updated(_read(README)).encode())
    write_atomic(SMALL, updated(_read(SMALL), small_table, SMALL).encode())
    for readme in recipe_readmes():
        write_atomic(readme, filled(_read(readme), readme.parent.name).encode())


def _read(readme: Path) -> str:
    with readable(readme):
        return text_of(readme.read_bytes(), readme)


@user_errors
def main() -> int:
    """The command line; a user's error is one message and exit code 2."""
    with updating(README):
        renew()
    return 0


if __name__ == "__main__":
    sys.exit(main())
