"""For maintainers: take what was measured on this machine as the project's reference, and renew the READMEs' tables.

    python -m scripts.accept mobilesam                  the same as: make accept PAPER=mobilesam
    python -m scripts.accept mobilesam --data coco
    python -m scripts.accept mobilesam --same           the same as: make accept PAPER=mobilesam SAME=1

Refused: results of code that is not committed, of other code, configs or settings than those at hand, of a pilot, with
missing arms or with fewer than three seeds of an arm that has seeds of its own.

`--same` is for code that changed without changing what it computes. One seed of every arm, measured again
(`make reproduce SEEDS=1`), has to come out as in the reference to the last bit; the reference then counts as one of the
code at hand, and says which seeds show it.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.running import preflight, recipes, results
from benchmarks.running.recipes import ROOT, Request
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import runs_folder, user_path
from common.training.runs import updating, write_json
from scripts import readme_tables

SEEDS = 3
TIMES = ("s", "ms")
"""Units of figures that no two runs have in common."""


def accept(request: Request) -> Path:
    """Write the reference of a request's paper, scale and data; returns its file.

    Raises:
        UserError: the results may not be one; the message lists every reason.
    """
    file = results.path(request)
    found = results.read(file)
    again = results.make_command(request)
    if found is None:
        raise UserError(f"{file} does not exist: nothing was measured yet ({again})")
    problems = [*uncommitted(request.paper), *differences(request, found)]
    refuse(f"{file} cannot be the reference", problems, f"\nThen: {again}, and make accept again")
    found = results.judged(found, recipes.page(request.paper))
    return results.write(results.reference(request.paper, request.label), found)


def accept_same(request: Request) -> Path:
    """Let the reference be one of the code at hand, which gives the same figures; returns its file.

    Raises:
        UserError: there is no reference, or nothing shows that figures are the same; the message lists every reason.
    """
    file = results.reference(request.paper, request.label)
    reference, found = results.read(file), results.read(results.path(request))
    if reference is None:
        raise UserError(f"there is no {file}, with which figures could be the same: make accept PAPER={request.paper}")
    if found is None:
        raise UserError(f"{results.path(request)} does not exist: run one seed again ({results.make_command(request)})")
    problems = [*uncommitted(request.paper), *differences(request, found, seeds=1), *changes(reference, found)]
    refuse(f"{file} does not stand for the code at hand", problems)
    for name, arm in reference["arms"].items():
        for stage, now in zip(arm["stages"], found["arms"][name]["stages"], strict=True):
            stage |= {key: now[key] for key in ("module", "fingerprint", "command")}
    again = set.intersection(*({int(seed) for seed in arm["seeds"]} for arm in found["arms"].values()))
    reference["same_seeds"] = sorted(again)
    return results.write(file, results.judged(reference, recipes.page(request.paper)))


def refuse(what: str, problems: list[str], then: str = "") -> None:
    """UserError with every problem in a line of its own, if there are any."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(f"{what}:\n{listed}{then}")


def changes(reference: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where figures of the same arm and seed differ, but for times."""
    page = recipes.page(reference["paper"])
    timed = {"train_seconds", *(name for name, metric in page.metrics.items() if metric.unit in TIMES)}
    if reference["hardware"] != found["hardware"]:
        return ["measured on another machine than the reference, where last bits may differ"]
    problems = []
    for name in found["arms"] | reference["arms"]:
        before, now = (content["arms"].get(name) for content in (reference, found))
        if before is None or now is None or len(before["stages"]) != len(now["stages"]):
            problems.append(f"{name}: not measured in both, or in other stages")
            continue
        if not (both := before["seeds"].keys() & now["seeds"].keys()):
            problems.append(f"{name}: no seed in common")
        for seed in sorted(both, key=int):
            first, second = ({k: v for k, v in arm["seeds"][seed].items() if k not in timed} for arm in (before, now))
            if other := sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key)):
                problems.append(f"{name}, seed {seed}: other figures of {', '.join(other)}")
    return problems


def accept_speed(request: Request) -> list[Path]:
    """Write the reference of what `make speed` measured of a paper on each device; returns the files."""
    measured = sorted((request.runs / request.paper / "speed").glob("*.json"))
    if not measured:
        raise UserError(f"no speed of {request.paper} was measured yet: make speed PAPER={request.paper}")
    if problems := uncommitted(request.paper):
        raise UserError(f"{measured[0].parent} cannot be the reference: {'; '.join(problems)}")
    files = []
    for file in measured:
        found = results.read_speed(file)
        if found is None or found["paper"] != request.paper:
            raise UserError(f"{file} holds no speed of {request.paper}: delete it, and measure again")
        files.append(results.RESULTS / "speed" / f"{request.paper}.{file.name}")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        write_json(files[-1], found, durable=True)
    return files


def uncommitted(paper: str) -> list[str]:
    """What of the code that results rest on is not committed."""
    watched = [
        "common",
        f"projects/{paper}",
        "benchmarks/judging",
        "benchmarks/running",
        f"benchmarks/papers/{paper}.yaml",
    ]
    status = subprocess.run(
        ["git", "status", "--porcelain", "--", *watched],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if status.returncode:
        return [f"git does not say what is committed: {status.stderr.strip()}"]
    changed = [line[3:] for line in status.stdout.splitlines() if not line.endswith(".md")]
    return [f"not committed: {', '.join(changed)}"] if changed else []


def differences(request: Request, found: dict[str, Any], seeds: int = SEEDS) -> list[str]:
    """Where results are not those that the code and configs at hand would measure with the default settings.

    Args:
        seeds: how many an arm with seeds of its own needs.
    """
    recipe, arms = recipes.check(request)
    expanded = recipes.jobs(request, preflight.environment(request))
    problems = []
    if missing := [name for name in arms if name not in found["arms"]]:
        problems.append(f"arms without results: {', '.join(missing)}")
    for name in arms:
        if name not in found["arms"]:
            continue
        chain, arm = expanded[name][request.first_seed], found["arms"][name]
        if [job.fingerprint for job in chain] != [stage["fingerprint"] for stage in arm["stages"]]:
            problems.append(f"{name}: measured with other code, configs, data or settings")
        elif len(arm["seeds"]) < seeds and not all(job.stage.shared for job in chain):
            problems.append(f"{name}: {len(arm['seeds'])} seeds, {seeds} are needed")
    return problems


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m scripts.accept", description=__doc__.split("\n")[0])
    parser.add_argument("paper", help="a recipe's name")
    parser.add_argument("--scale", default="mini", help="mini (default), small or paper")
    parser.add_argument("--data", default="", help="another data set of the recipe")
    parser.add_argument("--speed", action="store_true", help="what `make speed` measured, instead of a reproduction")
    parser.add_argument("--same", action="store_true", help="the reference stays: the code at hand gives its figures")
    parser.add_argument("--runs", default="", help="folder of the run folders (default: $RUNS, or runs)")
    options = parser.parse_args(arguments)
    refuse_control_in(options)
    runs = user_path(options.runs) if options.runs else runs_folder()
    wanted = Request(paper=options.paper, scale=options.scale, data=options.data, runs=runs)
    with updating(readme_tables.README):  # which shows the references of all recipes
        reference = accept_same if options.same else accept
        files = accept_speed(wanted) if options.speed else [reference(wanted)]
        readme_tables.renew()
    for file in files:
        print(f"reference  {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
