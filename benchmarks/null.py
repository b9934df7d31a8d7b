"""A planted null: the method's place is taken by a second copy of its strongest baseline, with other seeds.

python -m benchmarks.null mobilesam              the same as: make null PAPER=mobilesam
python -m benchmarks.null mobilesam --seeds 5

All the rest is as usual: the stages run, figures are paired by seed and judged. The two sides differ in nothing but the
seed, so a comparison that is wrongly decided is so by chance, and that must not happen more often than chance has it.
"""

import argparse
import math
import os
import statistics
import sys
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.judging.forms import Better
from benchmarks.judging.null import Null, null_result, planted
from benchmarks.judging.tables import Paper
from benchmarks.judging.verdict import Verdict, judge
from benchmarks.running import preflight, recipes, results, runner
from benchmarks.running.recipes import Request
from benchmarks.showing.terminal import STYLES, values
from common.console import table_console
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import runs_folder, user_path
from common.training.runs import locked

OTHER_SEEDS = 1000
"""What the copy's seeds are above the baseline's."""


def strongest_baseline(paper: Paper, method: str, scale: str, known: dict[str, Any]) -> str:
    """Of the arms that claims call worse than the method, the one with the best mean of the first claim's metric.

    Args:
        known: a results file's content; the first such claim's arm is taken where it has no figures.

    Raises:
        UserError: no claim at this scale says that the method is better than another arm.
    """
    tests = [
        claim.test
        for claim in paper.claims
        if scale in claim.scales and isinstance(claim.test, Better) and not claim.test.better.real
        and claim.test.better.arm == method and not paper.metric(claim.test.better).exact
    ]  # fmt: skip
    if not tests:
        raise UserError(f"{paper.paper} claims at {scale} scale of {method} nowhere that it is better than another arm")
    metric = paper.metric(tests[0].better)
    sign = 1 if metric.better == "higher" else -1

    def strength(arm: str) -> float:
        figures = values(known["arms"].get(arm, {"seeds": {}}), metric)
        return sign * statistics.fmean(figures) if figures else -math.inf

    return max(dict.fromkeys(test.worse.arm for test in tests), key=strength)


def run(request: Request, console: Console, slots: int = 0) -> list[Verdict]:
    """Train what is missing and judge."""
    recipe, arms = recipes.check(request)
    paper = recipes.page(request.paper)
    known = results.read(results.path(request)) or results.read(results.reference(request.paper, request.label))
    method = next(name for name, arm in arms.items() if arm.method)
    baseline = strongest_baseline(paper, method, request.scale, known or {"arms": {}})
    preflight.preflight(recipe, request)
    variables = preflight.environment(request)
    wanted = replace(request, arms=(baseline,))
    original = recipes.jobs(wanted, variables)[baseline]
    copy = recipes.jobs(replace(wanted, first_seed=OTHER_SEEDS), variables)[baseline]
    if all(job.stage.shared for job in original[0]):
        raise UserError(f"{baseline} has one run for all seeds: a copy with other seeds would be the same run")
    chains = [*original.values(), *copy.values()]
    jobs = list({(job.fingerprint, job.seed): job for chain in chains for job in chain}.values())
    said = (
        f" at {request.label} scale: {method} is a copy of {baseline}, {request.seeds} seeds of each, {len(jobs)} "
        f"stages, {sum(job.done is not None for job in jobs)} of them done before"
    )
    console.print(Text.assemble("null of ", (request.paper, "bold"), said))
    with locked(request.folder, f"a reproduction of {request.paper} at {request.label}"):
        outcome = runner.run(jobs, request.paper, request.label, slots or os.cpu_count() or 1, console)
    if outcome.failed:
        raise UserError(f"{len(outcome.failed)} stages failed; the same command goes on from here")
    found = {
        "paper": request.paper,
        "scale": request.scale,
        "data": request.data or "default",
        "arms": {
            name: {"seeds": {str(k): results.metrics(chain) for k, chain in enumerate(side.values())}}
            for name, side in ((method, copy), (baseline, original))
        },
    }
    return judge(found, planted(paper, method, baseline))


def print_null(verdicts: list[Verdict], null: Null, console: Console) -> None:
    """A line per comparison, and whether so many decisions are more than chance gives."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for verdict in verdicts:
        if verdict.status != "untested":
            table.add_row(
                Text(verdict.status, STYLES[verdict.status]), Text(verdict.claim), Text(verdict.reason, "dim")
            )
    console.print(table, soft_wrap=False)
    console.print(Text(str(null)), soft_wrap=True)


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
    command.add_argument("--jobs", type=recipes.count, default=0, help="stages side by side (default: all cores)")
    command.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or runs)")
    options = command.parse_args(arguments)
    refuse_control_in(options)
    console = table_console(110)
    runs = user_path(options.runs) if options.runs else runs_folder()
    os.chdir(recipes.ROOT)  # where configs are looked for
    wanted = Request(options.paper, options.scale, options.seeds, data=options.data, runs=runs)
    verdicts = run(wanted, console, options.jobs)
    null = null_result(verdicts)
    print_null(verdicts, null, console)
    return int(null.more_than_chance)


if __name__ == "__main__":
    sys.exit(main())
