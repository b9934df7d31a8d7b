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
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.judging.forms import Measure, measures
from benchmarks.judging.null import Null, null_result, planted
from benchmarks.judging.tables import Paper
from benchmarks.judging.verdict import Verdict, judge
from benchmarks.running import preflight, recipes, results, runner
from benchmarks.running.recipes import Request
from benchmarks.showing.terminal import STYLES, values
from common.console import table_console
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import runs_folder, user_path
from common.recipe import walk
from common.training.runs import locked

OTHER_SEEDS = 1000
"""What the copy's seeds are above the baseline's."""


def strongest_baseline(paper: Paper, method: str, scale: str, known: dict[str, Any], arms: Iterable[str]) -> str:
    """Of the arms that claims compare the method with, the one with the best mean.

    Claims of another arm than the method count where no claim is of the method itself: the arm that they call worse,
    or that the other is not worse than, is then the baseline. The first such claim's metric ranks the arms.

    Args:
        known: a results file's content; the first such claim's arm is taken where it has no figures.
        arms: those that may be copied: of which seeds differ.

    Raises:
        UserError: no claim at this scale compares two arms of which a seed has runs of its own.
    """
    can_be_copied = set(arms)
    pairs: list[tuple[Measure, Measure]] = []
    for claim in paper.claims:
        compared = measures(claim.test) if claim.test and scale in claim.scales else []
        if len(compared) < 2 or any(one.real or paper.metric(one).exact for one in compared):
            continue
        first, second = compared
        if second.arm == method:
            first, second = second, first
        if first.arm != second.arm and second.arm in can_be_copied:
            pairs.append((first, second))
    pairs = [pair for pair in pairs if pair[0].arm == method] or pairs
    if not pairs:
        raise UserError(
            f"{paper.paper} claims nowhere at {scale} scale that an arm differs from another in what varies"
        )
    metric = next((one for one in (paper.metric(second) for _, second in pairs) if one.better), None)
    if metric is None:
        return pairs[0][1].arm
    sign = 1 if metric.better == "higher" else -1

    def strength(arm: str) -> float:
        figures = values(known["arms"].get(arm, {"seeds": {}}), metric)
        return sign * statistics.fmean(figures) if figures else -math.inf

    return max(dict.fromkeys(second.arm for _, second in pairs), key=strength)


def run(request: Request, console: Console, slots: int = 0) -> list[Verdict]:
    """Train what is missing and judge."""
    recipe, arms = recipes.check(request)
    paper = recipes.page(request.paper)
    known = results.read(results.path(request)) or results.read(results.reference(request.paper, request.label))
    method = next(name for name, arm in arms.items() if arm.method)
    varying = [name for name, arm in arms.items() if not all(stage.shared for stage in walk(arm.stages))]
    baseline = strongest_baseline(paper, method, request.scale, known or {"arms": {}}, varying)
    preflight.preflight(recipe, request)
    variables = preflight.environment(request)
    wanted = replace(request, arms=(baseline,))
    original = recipes.jobs(wanted, variables)[baseline]
    copy = recipes.jobs(replace(wanted, first_seed=OTHER_SEEDS), variables)[baseline]
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
    if not null.comparisons:
        raise UserError(
            f"the two copies have the same figures for every one of {wanted.seeds} seeds: nothing of {wanted.paper} "
            "varies from seed to seed that could be decided by chance"
        )
    print_null(verdicts, null, console)
    return int(null.more_than_chance)


if __name__ == "__main__":
    sys.exit(main())
