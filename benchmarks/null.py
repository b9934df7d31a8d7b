"""A planted null: the method's place is taken by a second copy of its strongest baseline, with other seeds.

python -m benchmarks.null mobilesam              the same as: make null PAPER=mobilesam
python -m benchmarks.null mobilesam --seeds 5

All the rest is as usual: the stages run, the figures are paired by seed and judged by the claims' own forms. The two
sides differ in nothing but the seed, so a comparison that comes out confirmed, or refuted, does so by chance.
"""

import argparse
import os
import statistics
import sys
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.judging.tables import Better, Claim, Measure, Paper
from benchmarks.judging.verdict import Verdict, judge, null_result
from benchmarks.running import preflight, recipes, results, runner
from benchmarks.running.recipes import Job, Request
from benchmarks.showing.terminal import STYLES
from common.errors import UserError, user_errors
from common.paths import user_path
from common.training.runs import locked

OTHER_SEEDS = 1000
"""What the copy's seeds are above the baseline's."""


@dataclass(frozen=True)
class Null:
    """What is compared: a baseline, and the claims in which the method is held against an arm."""

    baseline: str
    claims: tuple[Claim, ...]


def plan_null(paper: Paper, method: list[str], scale: str, known: dict[str, Any]) -> Null:
    """The strongest baseline, and one comparison per metric and margin of the method's claims.

    The strongest is the arm against which the method is held that has the best mean of the first such claim's metric,
    in the results that are known; without results, the first such claim's arm.

    Args:
        method: the recipe's methods.
        known: a results file's content, or one without arms.

    Raises:
        UserError: no claim at this scale says that the method is better than another arm.
    """
    claims = [
        claim
        for claim in paper.claims
        if scale in claim.scales and isinstance(claim.test, Better) and not claim.test.better.real
        and claim.test.better.arm in method and claim.test.worse.arm not in method
        and claim.test.better.metric == claim.test.worse.metric and not paper.metric(claim.test.better).exact
    ]  # fmt: skip
    if not claims:
        raise UserError(f"{paper.paper} claims at {scale} scale of no method that it is better than another arm")
    first = claims[0].test
    assert isinstance(first, Better)
    rivals = list(dict.fromkeys(claim.test.worse.arm for claim in claims if isinstance(claim.test, Better)))
    sign = 1 if paper.metric(first.better).better == "higher" else -1

    def strength(arm: str) -> float:
        seeds = known["arms"].get(arm, {"seeds": {}})["seeds"].values()
        figures = [seed[first.better.metric] for seed in seeds if first.better.metric in seed]
        return sign * statistics.fmean(figures) if figures else -float("inf")

    distinct: dict[Any, Claim] = {}
    for claim in claims:
        assert isinstance(claim.test, Better)
        distinct.setdefault((claim.test.better.metric, claim.test.margin), claim)
    return Null(max(rivals, key=strength), tuple(distinct.values()))


def copied(arm: str) -> str:
    return f"{arm}, a copy"


def null_page(paper: Paper, null: Null) -> Paper:
    """The paper's page with the comparisons of the null as its only claims."""
    claims = []
    for claim in null.claims:
        assert isinstance(claim.test, Better)
        sides = (
            Measure(copied(null.baseline), claim.test.better.metric),
            Measure(null.baseline, claim.test.worse.metric),
        )
        claims.append(replace(claim, test=replace(claim.test, better=sides[0], worse=sides[1]), premise=()))
    return replace(paper, claims=tuple(claims))


def jobs_of(request: Request, null: Null, first_seed: int) -> dict[int, list[Job]]:
    """The baseline's jobs by seed."""
    variables = preflight.environment(request)
    wanted = replace(request, arms=(null.baseline,), first_seed=first_seed)
    return recipes.jobs(wanted, variables)[null.baseline]


def run(request: Request, console: Console, slots: int = 0) -> list[Verdict]:
    """Train what is missing and judge; the verdicts of the null."""
    recipe, arms = recipes.check(request)
    paper = recipes.page(request.paper)
    known = results.read(results.path(request)) or results.read(results.reference(request.paper, request.label))
    method = [name for name, arm in arms.items() if arm.method]
    null = plan_null(paper, method, request.scale, known or {"arms": {}})
    preflight.preflight(recipe, request)
    sides = {null.baseline: jobs_of(request, null, 0), copied(null.baseline): jobs_of(request, null, OTHER_SEEDS)}
    jobs = list(dict.fromkeys(job for chains in sides.values() for chain in chains.values() for job in chain))
    if all(job.stage.shared for job in sides[null.baseline][0]):
        raise UserError(f"{null.baseline} has one run for all seeds: a copy with other seeds would be the same run")
    console.print(
        f"null of [bold]{request.paper}[/] at {request.label} scale: {null.baseline} against a copy of itself, "
        f"{request.seeds} seeds each, {len(jobs)} stages, {sum(job.done is not None for job in jobs)} done before"
    )
    with locked(request.folder, f"a reproduction of {request.paper} at {request.label}"):
        outcome = runner.run(jobs, request.paper, request.label, slots or os.cpu_count() or 1, console)
    if outcome.failed:
        raise UserError(f"{len(outcome.failed)} stages failed; the same command goes on from here")
    found = {
        "paper": request.paper,
        "scale": request.scale,
        "data": request.data or "default",
        "arms": {
            name: {
                "method": name != null.baseline,
                "stages": [],
                "seeds": {str(seed % OTHER_SEEDS): results.metrics(chain) for seed, chain in chains.items()},
            }
            for name, chains in sides.items()
        },
    }
    verdicts = judge(found, null_page(paper, null))
    results.write(request.folder / "null.json", {**found, "verdicts": [vars(verdict) for verdict in verdicts]})
    return verdicts


def print_null(verdicts: list[Verdict], console: Console) -> None:
    """A line per comparison, and whether so many decisions are more than chance gives."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for verdict in verdicts:
        table.add_row(Text(verdict.status, STYLES[verdict.status]), verdict.claim, Text(verdict.reason, "dim"))
    console.print(table)
    console.print(null_result(verdicts), soft_wrap=True)


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 where no more was decided than chance decides, else 1; 2 after a user's error."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.null", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("paper", help="a recipe's name")
    command.add_argument("--scale", default="mini", help="mini (default) or small")
    command.add_argument("--data", default="", help="another data set of the recipe")
    command.add_argument("--seeds", type=int, default=3, help="seeds of each copy (default: 3)")
    command.add_argument("--jobs", type=int, default=0, help="stages side by side (default: all cores)")
    command.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or runs)")
    options = command.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    runs = user_path(options.runs) if options.runs else results.runs_folder()
    wanted = Request(options.paper, options.scale, options.seeds, data=options.data, runs=runs)
    verdicts = run(wanted, console, options.jobs)
    print_null(verdicts, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
