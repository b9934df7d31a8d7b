"""What the Makefile's targets run: a command of the project with the variables that `make` exported.

    python -m scripts.make reproduce      with PAPER, SCALE, SEEDS, ... in the environment

No shell sees the values: quotes, spaces, backticks and `$(...)` in them stay what they are.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, refuse_control, unknown, user_errors


@dataclass(frozen=True)
class Command:
    """A module with a `main`, and how variables become its command line.

    Attributes:
        options: option -> variable; an empty variable is left out.
        flags: option -> variable that switches it on, unless it is empty or says no.
        needs_paper: whether PAPER has to be given; it is the first argument.
        fixed: arguments that the target always gives.
    """

    module: str
    options: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    needs_paper: bool = True
    fixed: tuple[str, ...] = ()


WHAT = {"--scale": "SCALE", "--data": "DATA", "--runs": "RUNS"}
WITH = {"--arms": "ARMS", "--jobs": "JOBS"}
REPRODUCE = {
    **WHAT, **WITH, "--seeds": "SEEDS", "--seeds-max": "SEEDS_MAX", "--minutes": "MINUTES", "--data-root": "DATA_ROOT",
    "--devices": "DEVICES", "--args": "ARGS", "--launch": "LAUNCH", "--nodes": "NODES", "--partition": "PARTITION",
    "--time": "TIME", "--account": "ACCOUNT", "--sbatch-args": "SBATCH_ARGS",
}  # fmt: skip
PLAN = {
    "--gpu": "GPU",
    "--devices": "DEVICES",
    "--price": "PRICE",
    "--seeds": "SEEDS",
    "--arms": "ARMS",
    "--runs": "RUNS",
}
RUN = {"--dry-run": "DRY_RUN", "--force": "FORCE"}
COMMANDS = {
    "reproduce": Command("benchmarks.reproduce", REPRODUCE, RUN),
    "rehearse": Command("benchmarks.reproduce", {**WITH, "--runs": "RUNS"}, RUN, fixed=("--scale", "rehearsal")),
    "null": Command("benchmarks.null", {**WHAT, "--jobs": "JOBS", "--seeds": "SEEDS"}),
    "accept": Command("scripts.accept", WHAT, {"--speed": "SPEED", "--same": "SAME"}),
    "status": Command("benchmarks.status", {"--runs": "RUNS"}),
    "plan": Command("benchmarks.plan", PLAN, {"--fresh": "FORCE", "--record": "RECORD"}),
    "speed": Command("benchmarks.speed"),
    "list": Command("benchmarks.catalogue", needs_paper=False),
    "weights": Command("scripts.weights", needs_paper=False),
    "dashboard": Command("scripts.wandb_report", flags={"--offline": "OFFLINE"}),
    "report": Command("benchmarks.report", needs_paper=False),
    "new": Command("scripts.new_recipe"),
}


OFF = ("", "0", "no", "false", "off")
ALWAYS = ("PAPER", "DATA_ROOT", "WEIGHTS_ROOT")
"""Variables that are checked whether a target's command has an option for them or not."""
SUITE = ["-n", "auto", "--dist", "loadfile", "-m", "not slurm"]
TESTS = Path(__file__).resolve().parents[1] / "tests" / "projects"


def command_line(target: str, variables: Mapping[str, str]) -> list[str]:
    """The words after `python -m` for a target.

    Raises:
        UserError: PAPER is missing, or a variable holds a control character.
    """
    paper = variables.get("PAPER", "")
    if target == "test":
        return ["pytest", *SUITE, *(["--rehearse", "all", *tests_of(paper)] if paper else [])]
    command = COMMANDS[target]
    refuse_control({name: variables.get(name) for name in (*ALWAYS, *command.options.values())})
    if command.needs_paper and not paper:
        raise UserError(f"say which paper: make {target} PAPER=mobilesam (make list shows all)")
    words = [paper] if paper and target != "list" else []
    words += [f"{option}={variables[name]}" for option, name in command.options.items() if variables.get(name)]
    words += [option for option, name in command.flags.items() if variables.get(name, "").lower() not in OFF]
    return [command.module, *words, *command.fixed]


def tests_of(paper: str) -> list[str]:
    """The test files of one recipe; UserError where there are none."""
    papers = sorted((folder.parent.name for folder in TESTS.parents[1].glob("projects/*/recipe.py")), key=len)
    if paper not in papers:
        raise unknown("paper", paper, papers)

    def owner(file: Path) -> str:  # test_sit_v2_model.py is of sit_v2, where there is one, not of sit
        name = file.stem.removeprefix("test_")
        return next((p for p in reversed(papers) if name == p or name.startswith(f"{p}_")), "")

    return [str(file) for file in sorted(TESTS.glob(f"test_{paper}*.py")) if owner(file) == paper]


@user_errors
def main(given: list[str] | None = None) -> int:
    """Become a target's command; a user's error is one message and exit code 2."""
    targets = [*COMMANDS, "test"]
    target = (sys.argv[1:] if given is None else given)[0]
    if target not in targets:
        raise unknown("target", target, targets)
    os.execv(sys.executable, [sys.executable, "-m", *command_line(target, os.environ)])


if __name__ == "__main__":
    sys.exit(main())
