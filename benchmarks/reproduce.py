"""Reproduce a paper: run its stages, judge its claims, print its table, write its report.

python -m benchmarks.reproduce mobilesam                       three seeds of every arm at mini scale
python -m benchmarks.reproduce mobilesam --seeds auto           as many, up to 12, as its claims need
python -m benchmarks.reproduce mobilesam --seeds 1 --arms decoupled
python -m benchmarks.reproduce mobilesam --seeds 100-104        a pilot: seeds that are never reported
python -m benchmarks.reproduce mobilesam --dry-run             only print the commands
python -m benchmarks.reproduce mobilesam --scale paper --launch slurm --partition gpu --time 1-00:00:00 --devices 8
"""

import argparse
import math
import os
import re
import shlex
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.judging.tables import Paper
from benchmarks.judging.verdict import LOOKS, undecided
from benchmarks.report import make_report
from benchmarks.running import everything, fetching, preflight, recipes, rehearsal, results, runner
from benchmarks.running import launch as launching
from benchmarks.running.launch import Launch
from benchmarks.running.recipes import ROOT, Job, Request
from benchmarks.showing.terminal import print_outlook, print_results
from common.console import table_console
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import runs_folder, user_path
from common.recipe import SCALES, Arm
from common.training.runs import disk_error, locked

PILOT = 100
"""The first seed of pilots: a reported seed never comes near."""


def parser() -> argparse.ArgumentParser:
    """The command line; each option is the `make` variable of the same name."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "paper", help="a recipe's name (`make list` shows them), or `all`: two of them side by side at most"
    )
    command.add_argument("--scale", default="mini", help=f"{', '.join(SCALES)} (default: mini)")
    command.add_argument(
        "--seeds",
        default="3",
        help="seeds per arm (default: 3); auto: 3, then 5, 8 and 12 of the arms of claims that are not decided yet; "
        "100-104: a pilot on these seeds, whose results are never a reference",
    )
    command.add_argument(
        "--seeds-max", type=recipes.count, default=max(LOOKS), help="with --seeds auto: no more than these"
    )
    command.add_argument("--minutes", type=float, default=0.0, help="with --seeds auto: no look that ends later")
    command.add_argument("--arms", default="", help="only these arms, separated by commas or spaces")
    command.add_argument(
        "--data", default="", help="another data set of the recipe, at mini or small scale (its folder: DATA_ROOT)"
    )
    command.add_argument("--data-root", default="", help="folder of the data; the same as the variable DATA_ROOT")
    command.add_argument("--devices", default="", help="passed on as --trainer.devices")
    command.add_argument(
        "--jobs",
        type=recipes.count,
        default=0,
        help="stages side by side (default: all cores at mini scale, 1 at paper scale)",
    )
    command.add_argument("--args", default="", help='passed on to every stage, e.g. "--trainer.precision bf16-mixed"')
    command.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or the project's runs)")
    command.add_argument(
        "--launch",
        default="local",
        help="local; torchrun: one stage after another on this machine's devices; slurm: as jobs (default: local)",
    )
    command.add_argument("--nodes", type=int, default=1, help="nodes per stage, with --launch slurm (default: 1)")
    for option in ("partition", "time", "account"):
        command.add_argument(f"--{option}", default="", help=f"sbatch's --{option}, with --launch slurm")
    command.add_argument("--sbatch-args", default="", help="more of sbatch's options, with --launch slurm")
    command.add_argument("--collect", action="store_true", help="run nothing: only report what has finished")
    command.add_argument("--dry-run", action="store_true", help="print the stages' commands, in order, and stop")
    command.add_argument("--force", action="store_true", help="run the recipe's own stages again; foundations are kept")
    return command


@dataclass(frozen=True)
class Limits:
    """Where SEEDS=auto stops: at so many seeds, and before so many minutes are over (0: no limit)."""

    seeds: int = max(LOOKS)
    minutes: float = 0.0


NO_LIMITS = Limits()


def make_request(options: argparse.Namespace) -> Request:
    """The request that a command line stands for."""
    first, seeds, auto = parse_seeds(options.seeds)
    rehearsed = options.scale == "rehearsal"
    return Request(
        paper=options.paper,
        scale=options.scale,
        seeds=1 if rehearsed else seeds,
        first_seed=0 if rehearsed else first,
        auto=auto and not rehearsed,
        arms=tuple(options.arms.replace(",", " ").split()),
        data="" if options.data == "default" else options.data,
        devices=options.devices or (str(preflight.gpus() or 1) if options.launch == "torchrun" else ""),
        nodes=options.nodes,
        args=words("ARGS", options.args),
        runs=options.runs,
    )


def parse_seeds(text: str) -> tuple[int, int, bool]:
    """SEEDS as its first seed, how many, and whether looks add more: `3`, `auto`, `100-104`."""
    if text == "auto":
        return 0, min(LOOKS), True
    matched = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
    if not matched:
        raise UserError(f"SEEDS={text}: give a number (3), auto, or a range of a pilot's seeds (100-104).")
    if matched[2] is None:
        return 0, int(matched[1]), False
    first, last = int(matched[1]), int(matched[2])
    if first < PILOT or last < first:
        raise UserError(f"SEEDS={text}: a pilot's seeds begin at {PILOT} and count upwards: {PILOT}-{PILOT + 4}.")
    return first, last - first + 1, False


def make_launch(options: argparse.Namespace) -> Launch:
    """How a command line wants the stages started."""
    sbatch_args = words("SBATCH_ARGS", options.sbatch_args)
    return Launch(options.launch, options.partition, options.time, options.account, sbatch_args)


def words(variable: str, text: str) -> tuple[str, ...]:
    """The words of a variable as the shell would split them."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"{variable}={text}: {str(error).lower()}") from error


def collecting(request: Request) -> list[str]:
    """The command line that reports what has finished of a request."""
    words = [request.paper, "--scale", request.scale, "--seeds", results.seeds_word(request)]
    words += ["--runs", str(request.runs)]
    words += ["--arms", ",".join(request.arms)] if request.arms else []
    words += ["--data", request.data] if request.data else []
    words += ["--devices", request.devices] if request.devices else []
    words += ["--nodes", str(request.nodes)] if request.nodes > 1 else []
    return [*words, *([f"--args={shlex.join(request.args)}"] if request.args else []), "--collect"]


def reproduce(
    request: Request,
    console: Console,
    slots: int = 0,
    dry_run: bool = False,
    force: bool = False,
    launch: Launch = launching.LOCAL,
    collect: bool = False,
    limits: Limits = NO_LIMITS,
) -> int:
    """Run what is out of date, then report. Returns the exit code: 0, or that of a failed stage.

    With LAUNCH=slurm what is out of date is submitted, and the last of the jobs reports; `collect` is what it does.
    """
    recipe, chosen = recipes.check(request)
    if not collect:
        launching.check(launch, request)
    if request.scale == "rehearsal" and not recipe.stand_ins:
        raise UserError(
            f"{request.paper} cannot be rehearsed: projects/{request.paper}/recipe.py names no `stand_ins`. Write a "
            "function that makes them (projects/mobilesam/harness/rehearsal.py is an example) and name it there."
        )
    if request.auto and launch.how == "slurm":
        raise UserError("SEEDS=auto looks at results before it runs more seeds; with LAUNCH=slurm give a number.")
    paper = recipes.page(request.paper)
    stand_ins = (
        (request.folder / f"stand-ins-{recipes.stand_in_digest(recipe)}").absolute()
        if request.scale == "rehearsal"
        else None
    )
    if recipe.small and request.scale == "small" and not dry_run and not collect:
        fetching.fetch(recipe.small, request, console)
    variables = preflight.environment(request, stand_ins)
    jobs = recipes.unique(recipes.jobs(request, variables))
    if launch.how == "torchrun":
        launching.torchrun(jobs, request.devices)
    if dry_run and launch.how == "slurm":
        launching.submit(jobs, request, launch, collecting(request), console, dry_run, force)
        return 0
    if dry_run:
        for job in jobs:
            print(job.command())
        return 0
    if not collect:
        preflight.preflight(recipe, request, runs_here=launch.how != "slurm")
    to_submit = launch.how == "slurm" and (force or any(job.done is None for job in jobs))
    if to_submit:
        gpu = launching.check_cluster(request, launch)
        if request.scale == "paper":
            preflight.check_memory(recipe, request, gpu)

    started = time.monotonic()
    with locked(request.folder, f"a reproduction of {request.paper} at {request.label}"):
        if to_submit:
            launching.submit(jobs, request, launch, collecting(request), console, force=force)
            return 0
        if force:
            for job in jobs:
                if not job.foundation:
                    shutil.rmtree(job.run_dir, ignore_errors=True)
        before = sum(job.done is not None for job in jobs)
        seeds = f"seeds {results.seeds_word(request)}" if request.pilot or request.auto else f"{request.seeds} seeds"
        console.print(
            Text.assemble(
                (request.paper, "bold"),
                f" at {request.label} scale: {len(chosen)} arms, {seeds}, {len(jobs)} stages, {before} of them done "
                "before",
            )
        )
        one_by_one = request.scale == "paper" or launch.how == "torchrun"
        slots = slots or (1 if one_by_one else os.cpu_count() or 1)
        if collect:
            outcome = runner.Outcome()
        elif stand_ins is not None:
            made = (recipe.stand_ins, stand_ins)
            outcome = rehearsal.run(jobs, request.paper, request.label, slots, console, made)
        else:
            outcome = run_looks(request, jobs, paper, variables, slots, console, launch, limits)
        report(request, paper, chosen, jobs, variables, console)
        if stand_ins is not None:
            rehearsal.print_coverage(jobs, console)
            if not outcome.failed and not collect:
                console.print(Text(rehearsal.certify(request, jobs, stand_ins)), soft_wrap=True)
    if collect:
        missing = [job for job in jobs if job.done is None]
        console.print(f"{len(jobs) - len(missing)} of {len(jobs)} stages have finished")
        for job in missing:
            said = f" {runner.describe(job)} (log: {job.run_dir / 'log.txt'})"
            console.print(Text.assemble(("not finished", "red"), said), soft_wrap=True)
        return 1 if missing else 0
    console.print(f"{len(outcome.ran)} stages run in {time.monotonic() - started:.0f} s")
    if outcome.failed:
        console.print(
            Text.assemble(
                (
                    f"{len(outcome.failed)} stages failed, {len(outcome.skipped)} were not started because of that;",
                    "red",
                ),
                " the same command goes on from here",
            )
        )
        return 2 if 2 in outcome.failed.values() else 1
    return 0


def run_looks(
    request: Request,
    jobs: list[Job],
    paper: Paper,
    variables: dict[str, str],
    slots: int,
    console: Console,
    launch: Launch,
    limits: Limits,
) -> runner.Outcome:
    """Run the jobs; with SEEDS=auto, then more seeds of the arms of claims that are still open, look by look."""
    warm = request.scale != "paper" and launch.how != "torchrun"
    started = time.monotonic()
    outcome = runner.run(jobs, request.paper, request.label, slots, console, warm=warm)
    looks = list(LOOKS) if request.auto else []
    for before, look in pairwise(looks):
        arms = [] if outcome.failed else open_arms(measured(request, variables), paper, request, before)
        if not arms:
            break
        if look > limits.seeds:
            console.print(Text(f"SEEDS_MAX={limits.seeds}: claims of {', '.join(arms)} stay open"))
            break
        more = recipes.unique(recipes.jobs(replace(request, seeds=look, arms=tuple(arms)), variables))
        if launch.how == "torchrun":
            launching.torchrun(more, request.devices)
        takes = results.seconds_left(more, slots)
        if limits.minutes and time.monotonic() - started + takes > 60 * limits.minutes:
            said = f"MINUTES={limits.minutes:g}: {look} seeds of {', '.join(arms)} would take {takes / 60:.1f} more"
            console.print(Text(said))
            break
        console.print(f"look at {look} seeds: {len(arms)} arms of open claims, about {takes / 60:.1f} minutes")
        outcome.add(runner.run(more, request.paper, request.label, slots, console, warm=warm))
    return outcome


def measured(request: Request, variables: dict[str, str]) -> dict[str, Any]:
    """What has finished of all arms; of all seeds that any look asks for, with SEEDS=auto."""
    recipe, _ = recipes.check(request)
    whole = replace(request, arms=(), seeds=max(LOOKS) if request.auto else request.seeds)
    return results.collect(request, recipe.arms_for(request.scale, request.data), recipes.jobs(whole, variables))


def open_arms(found: dict[str, Any], paper: Paper, request: Request, look: int) -> list[str]:
    """Arms of the claims that are not decided at a look and that more seeds could decide, those that the user chose."""
    wanted = {arm for arms in undecided(found, paper, results.networks(paper.paper), look).values() for arm in arms}
    return [arm for arm in found["arms"] if arm in wanted and (not request.arms or arm in request.arms)]


def report(
    request: Request,
    paper: Paper,
    chosen: dict[str, Arm],
    jobs: list[Job],
    variables: dict[str, str],
    console: Console,
) -> None:
    """Write what was measured beside the run folders, print it beside the reference, and write the report."""
    found = measured(request, variables)
    shown = {name: arm for name, arm in found["arms"].items() if name in chosen}
    if not shown:
        now = {job.fingerprint for job in recipes.unique(recipes.jobs(replace(request, arms=()), variables))}
        changed = any(job.fingerprint not in now for job in jobs)
        why = (
            "its code or configs were changed while it ran, and nothing stale is reported: run it again"
            if changed
            else "no arm has finished"
        )
        console.print(Text(f"there is nothing to report yet: {why}", "red"))
        return
    found = results.judged(found, paper)
    reference = results.reference_for(found, paper)
    console.print()
    print_results({**found, "arms": shown}, paper, console, reference)
    console.print()
    if request.scale != "rehearsal":
        console.print(Text(f"results  {results.write(results.path(request), found)}"), soft_wrap=True)
    page = make_report(found, paper, request.runs)
    console.print(Text(f"report   {page}"), soft_wrap=True)
    if request.scale != "rehearsal" and not request.auto:
        print_outlook(found, paper, console)


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    refuse_control_in(options)
    console = table_console(110, soft_wrap=True)
    options.runs = shortened(user_path(options.runs) if options.runs else runs_folder())
    if options.paper == "all":
        words = without_paper(sys.argv[1:] if arguments is None else arguments)
        side_by_side = everything.SIDE_BY_SIDE if options.scale != "paper" else 1
        papers = [name for name in recipes.names() if options.scale != "small" or recipes.load(name).small]
        return everything.reproduce_all(papers, words, options.runs, console, options.jobs, side_by_side)
    if options.data_root:
        os.environ["DATA_ROOT"] = options.data_root
    for variable in ("DATA_ROOT", "WEIGHTS_ROOT"):
        if os.environ.get(variable):
            os.environ[variable] = str(user_path(os.environ[variable]))
    os.chdir(ROOT)  # where configs are looked for
    return run(options, console)


def without_paper(words: list[str]) -> list[str]:
    """A command line without the word that names the paper: `--arms all all` has two of them."""
    at = next(
        k for k, word in enumerate(words) if word == "all" and parser().parse_args(replaced(words, k)).paper == ""
    )
    return [word for k, word in enumerate(words) if k != at and word != "--"]


def replaced(words: list[str], at: int) -> list[str]:
    return [*words[:at], "", *words[at + 1 :]]


def shortened(folder: Path) -> Path:
    """A folder in the project as its path from there, for commands that people read."""
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def run(options: argparse.Namespace, console: Console) -> int:
    """Reproduce one paper. Returns the exit code, 2 after a message to the user and 130 after Ctrl-C."""
    try:
        request, launch = make_request(options), make_launch(options)
        if not 0 <= options.minutes < math.inf:
            raise UserError(f"MINUTES={options.minutes:g}: give a number of minutes; 0 is no limit")
        limits = Limits(options.seeds_max, options.minutes)
        return reproduce(
            request, console, options.jobs, options.dry_run, options.force, launch, options.collect, limits
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if known := disk_error(error, options.runs):
            print(f"error: {known}", file=sys.stderr)
            return 2
        raise
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no stage is left behind
    sys.exit(main())
