"""Reproduce a paper: run its stages, judge its claims, print its table, write its report.

python -m benchmarks.reproduce mobilesam                       three seeds of every arm at mini scale
python -m benchmarks.reproduce mobilesam --seeds 1 --arms decoupled
python -m benchmarks.reproduce mobilesam --dry-run             only print the commands
"""

import argparse
import os
import shlex
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from benchmarks import preflight, recipes, rehearsal, results, runner
from benchmarks.recipes import ROOT, Request
from benchmarks.report import make_report
from benchmarks.tables import load_paper
from benchmarks.terminal import print_results
from benchmarks.verdict import judge
from common.errors import UserError
from common.recipe import SCALES
from common.training.runs import disk_error, locked


def parser() -> argparse.ArgumentParser:
    """The command line; each option is the `make` variable of the same name."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("paper", help="a recipe's name (`make list` shows them)")
    command.add_argument("--scale", default="mini", help=f"{', '.join(SCALES)} (default: mini)")
    command.add_argument("--seeds", type=int, default=3, help="seeds per arm (default: 3)")
    command.add_argument("--arms", default="", help="only these arms, separated by commas or spaces")
    command.add_argument(
        "--data", default="", help="another data set of the recipe, at mini scale (its folder: DATA_ROOT)"
    )
    command.add_argument("--data-root", default="", help="folder of the data; the same as the variable DATA_ROOT")
    command.add_argument("--devices", default="", help="passed on as --trainer.devices")
    command.add_argument(
        "--jobs", type=int, default=0, help="stages side by side (default: all cores at mini scale, 1 at paper scale)"
    )
    command.add_argument("--args", default="", help='passed on to every stage, e.g. "--trainer.precision bf16-mixed"')
    command.add_argument(
        "--runs", default=os.environ.get("RUNS", "runs"), help="folder of the run folders (default: runs)"
    )
    command.add_argument("--dry-run", action="store_true", help="print the stages' commands, in order, and stop")
    command.add_argument("--force", action="store_true", help="run the recipe's own stages again; foundations are kept")
    return command


def make_request(options: argparse.Namespace) -> Request:
    """The request that a command line stands for."""
    return Request(
        paper=options.paper,
        scale=options.scale,
        seeds=1 if options.scale == "rehearsal" else options.seeds,
        arms=tuple(options.arms.replace(",", " ").split()),
        data="" if options.data == "default" else options.data,
        devices=options.devices,
        args=tuple(shlex.split(options.args)),
        runs=Path(options.runs),
    )


def make_command(request: Request) -> str:
    """The `make` line that reproduces a results file."""
    words = ["make", "reproduce", f"PAPER={request.paper}"]
    if request.scale != "mini":
        words.append(f"SCALE={request.scale}")
    if request.data:
        words += [f"DATA={request.data}", "DATA_ROOT=<folder>"]
    if request.seeds != 3 and request.scale != "rehearsal":
        words.append(f"SEEDS={request.seeds}")
    return " ".join(words + ([f'ARGS="{shlex.join(request.args)}"'] if request.args else []))


def reproduce(request: Request, console: Console, slots: int = 0, dry_run: bool = False, force: bool = False) -> int:
    """Run what is out of date, then report. Returns the exit code: 0, or that of a failed stage."""
    recipe, chosen = recipes.check(request)
    arms = recipe.arms(request.scale)
    paper = load_paper(request.paper, list(arms))
    folder = request.runs / request.paper / request.label
    stand_ins = (
        (folder / f"stand-ins-{recipes.stand_in_digest(recipe)}").absolute() if request.scale == "rehearsal" else None
    )
    variables = preflight.environment(request, stand_ins)
    expanded = recipes.jobs(request, variables)
    jobs = recipes.unique(expanded)
    if dry_run:
        for job in jobs:
            print(job.command())
        return 0
    preflight.preflight(recipe, request)

    started = time.monotonic()
    with locked(folder, f"a reproduction of {request.paper} at {request.label}"):
        if force:
            for job in jobs:
                if not job.foundation:
                    shutil.rmtree(job.run_dir, ignore_errors=True)
        if stand_ins is not None:
            runner.stand_ins(recipe.stand_ins, stand_ins)
        before = sum(job.done is not None for job in jobs)
        console.print(
            f"[bold]{request.paper}[/] at {request.label} scale: {len(chosen)} arms, {request.seeds} seeds, "
            f"{len(jobs)} stages, {before} of them done before"
        )
        slots = slots or (1 if request.scale == "paper" else os.cpu_count() or 1)
        if stand_ins is None:
            outcome = runner.run(jobs, request.paper, request.label, slots, console, warm=request.scale != "paper")
        else:
            outcome = rehearsal.run(jobs, request.paper, request.label, slots, console)
        everything = recipes.jobs(replace(request, arms=()), variables)
        found = results.collect(request, arms, everything, make_command(request))
        shown = {name: arm for name, arm in found["arms"].items() if name in chosen}
        if not shown:
            console.print("[red]no arm has finished; there is nothing to report yet[/]")
        else:
            found["verdicts"] = [asdict(verdict) for verdict in judge(found, paper)]
            file = results.write(request, found) if request.scale != "rehearsal" else None
            console.print()
            print_results({**found, "arms": shown}, paper, console)
            console.print()
            if file:
                console.print(f"results  {file.relative_to(ROOT)}", soft_wrap=True)
            console.print(f"report   {make_report(found, paper, everything)}", soft_wrap=True)
        if stand_ins is not None:
            rehearsal.print_coverage(jobs, console)
    console.print(f"{len(outcome.ran)} stages run in {time.monotonic() - started:.0f} s")
    if outcome.failed:
        console.print(
            f"[red]{len(outcome.failed)} stages failed, {len(outcome.skipped)} were not started because of that;[/] "
            "the same command goes on from here"
        )
        return 2 if 2 in outcome.failed.values() else 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    if options.data_root:
        os.environ["DATA_ROOT"] = options.data_root
    for variable in ("DATA_ROOT", "WEIGHTS_ROOT"):
        if os.environ.get(variable):
            os.environ[variable] = str(Path(os.environ[variable]).expanduser().absolute())
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 110, highlight=False)
    request = make_request(options)
    try:
        return reproduce(request, console, options.jobs, options.dry_run, options.force)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if known := disk_error(error, request.runs):
            print(f"error: {known}", file=sys.stderr)
            return 2
        raise
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
