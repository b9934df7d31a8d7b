"""Reproduce a paper: run its stages, judge its claims, print its table, write its report.

python -m benchmarks.reproduce mobilesam                       three seeds of every arm at mini scale
python -m benchmarks.reproduce mobilesam --seeds 1 --arms decoupled
python -m benchmarks.reproduce mobilesam --dry-run             only print the commands
python -m benchmarks.reproduce mobilesam --scale paper --launch slurm --partition gpu --time 1-00:00:00 --devices 8
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from benchmarks.judging.tables import load_paper
from benchmarks.judging.verdict import judge
from benchmarks.report import make_report
from benchmarks.running import everything, preflight, recipes, rehearsal, results, runner
from benchmarks.running import launch as launching
from benchmarks.running.launch import Launch
from benchmarks.running.recipes import ROOT, Request
from benchmarks.showing.terminal import print_results
from common.errors import UserError
from common.recipe import SCALES
from common.training.runs import disk_error, locked


def parser() -> argparse.ArgumentParser:
    """The command line; each option is the `make` variable of the same name."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "paper", help="a recipe's name (`make list` shows them), or `all`: two of them side by side at most"
    )
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


def make_request(options: argparse.Namespace) -> Request:
    """The request that a command line stands for."""
    return Request(
        paper=options.paper,
        scale=options.scale,
        seeds=1 if options.scale == "rehearsal" else options.seeds,
        arms=tuple(options.arms.replace(",", " ").split()),
        data="" if options.data == "default" else options.data,
        devices=options.devices or (str(preflight.gpus() or 1) if options.launch == "torchrun" else ""),
        nodes=options.nodes,
        args=words("ARGS", options.args),
        runs=Path(options.runs),
    )


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
    words = [request.paper, "--scale", request.scale, "--seeds", str(request.seeds), "--runs", str(request.runs)]
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
    arms = recipe.arms_for(request.scale, request.data)
    paper = load_paper(request.paper, recipes.arm_names(request.paper))
    folder = request.runs / request.paper / request.label
    stand_ins = (
        (folder / f"stand-ins-{recipes.stand_in_digest(recipe)}").absolute() if request.scale == "rehearsal" else None
    )
    variables = preflight.environment(request, stand_ins)
    expanded = recipes.jobs(request, variables)
    jobs = recipes.unique(expanded)
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
    with locked(folder, f"a reproduction of {request.paper} at {request.label}"):
        if to_submit:
            launching.submit(jobs, request, launch, collecting(request), console, force=force)
            return 0
        if force:
            for job in jobs:
                if not job.foundation:
                    shutil.rmtree(job.run_dir, ignore_errors=True)
        before = sum(job.done is not None for job in jobs)
        console.print(
            f"[bold]{request.paper}[/] at {request.label} scale: {len(chosen)} arms, {request.seeds} seeds, "
            f"{len(jobs)} stages, {before} of them done before"
        )
        one_by_one = request.scale == "paper" or launch.how == "torchrun"
        slots = slots or (1 if one_by_one else os.cpu_count() or 1)
        if collect:
            outcome = runner.Outcome()
        elif stand_ins is None:
            outcome = runner.run(jobs, request.paper, request.label, slots, console, warm=not one_by_one)
        else:
            made = (recipe.stand_ins, stand_ins)
            outcome = rehearsal.run(jobs, request.paper, request.label, slots, console, made)
        everything = recipes.jobs(replace(request, arms=()), variables)
        found = results.collect(request, arms, everything)
        shown = {name: arm for name, arm in found["arms"].items() if name in chosen}
        if not shown:
            now = {job.fingerprint for job in recipes.unique(everything)}
            changed = any(job.fingerprint not in now for job in jobs)
            why = (
                "its code or configs were changed while it ran, and nothing stale is reported: run it again"
                if changed
                else "no arm has finished"
            )
            console.print(f"[red]there is nothing to report yet: {why}[/]")
        else:
            found["verdicts"] = [asdict(verdict) for verdict in judge(found, paper, results.networks(paper.paper))]
            # with other settings a miniature is another experiment: its figures stay out of the project's own
            own = request.scale == "paper" or (request.scale == "mini" and not request.args and not request.devices)
            file = results.write(request, found) if own else None
            console.print()
            print_results({**found, "arms": shown}, paper, console)
            console.print()
            if file:
                console.print(f"results  {file.relative_to(ROOT)}", soft_wrap=True)
            console.print(f"report   {make_report(found, paper, everything)}", soft_wrap=True)
        if stand_ins is not None:
            rehearsal.print_coverage(jobs, console)
            if not outcome.failed:
                console.print(rehearsal.certify(request, jobs, stand_ins), soft_wrap=True)
    if collect:
        missing = [job for job in jobs if job.done is None]
        console.print(f"{len(jobs) - len(missing)} of {len(jobs)} stages have finished")
        for job in missing:
            console.print(
                f"[red]not finished[/] {runner.describe(job)} (log: {job.run_dir / 'log.txt'})", soft_wrap=True
            )
        return 1 if missing else 0
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
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 110, highlight=False)
    if options.paper == "all":
        words = [*(sys.argv[1:] if arguments is None else arguments)]
        words.remove("all")
        side_by_side = everything.SIDE_BY_SIDE if options.scale != "paper" else 1
        return everything.reproduce_all(recipes.names(), words, Path(options.runs), console, options.jobs, side_by_side)
    if options.data_root:
        os.environ["DATA_ROOT"] = options.data_root
    for variable in ("DATA_ROOT", "WEIGHTS_ROOT"):
        if os.environ.get(variable):
            os.environ[variable] = str(Path(os.environ[variable]).expanduser().absolute())
    os.chdir(ROOT)  # where configs, and relative run folders, are looked for
    return run(options, console)


def run(options: argparse.Namespace, console: Console) -> int:
    """Reproduce one paper. Returns the exit code, 2 after a message to the user and 130 after Ctrl-C."""
    try:
        request, launch = make_request(options), make_launch(options)
        return reproduce(request, console, options.jobs, options.dry_run, options.force, launch, options.collect)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if known := disk_error(error, Path(options.runs)):
            print(f"error: {known}", file=sys.stderr)
            return 2
        raise
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no stage is left behind
    sys.exit(main())
