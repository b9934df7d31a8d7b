"""What a paper-scale recipe will cost, before anything is launched: work, memory, time, money, bytes.

python -m benchmarks.plan mobilesam --gpu a100-80g --devices 1 --price 2.5

What a step takes on any GPU stands in benchmarks/plans/<paper>.json; a stage whose config or code is another is
counted, and kept beside the runs (`benchmarks.planning`). Maintainers renew the committed file with --record.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.planning import records, stages
from benchmarks.planning.gpus import gpu
from benchmarks.planning.stages import UTILISATION
from benchmarks.running import recipes
from common.errors import UserError, refuse_control_in, user_errors


def parser() -> argparse.ArgumentParser:
    """The command line; each option is the `make` variable of the same name."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("paper", help="a recipe's name (`make list` shows them)")
    command.add_argument("--gpu", default="", help="a name in benchmarks/planning/gpus.yaml (default: the recipe's)")
    command.add_argument("--devices", default="", help="GPUs that a stage runs on (default: the config's, or one)")
    command.add_argument("--price", default="", help="of one GPU for one hour, in any currency; none prints no money")
    command.add_argument("--seeds", type=int, default=3, help="seeds per arm (default: 3)")
    command.add_argument("--arms", default="", help="only these arms, separated by commas or spaces")
    command.add_argument(
        "--utilisation", type=float, default=UTILISATION,
        help=f"share of the GPU's peak arithmetic and bandwidth that is reached (default: {UTILISATION})",
    )  # fmt: skip
    command.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    command.add_argument("--fresh", action="store_true", help="count every stage, whatever is known of it")
    command.add_argument(
        "--record", action="store_true",
        help="for maintainers: renew benchmarks/plans/<paper>.json; with the paper `all`, every recipe's",
    )  # fmt: skip
    return command


def number(text: str, what: str, kind: type[float] | type[int]) -> Any:
    """A positive number from the command line, 0 for an empty word."""
    try:
        value = kind(text or 0)
    except ValueError:
        value = kind(-1)
    if value < 0:
        raise UserError(f"{what}={text}: a positive {'number' if kind is float else 'whole number'} is needed")
    return value


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    refuse_control_in(options)
    if options.record:
        for paper in recipes.names() if options.paper == "all" else [options.paper]:
            renewed = stages.record(paper, options.fresh)
            print(f"{paper}: {records.path(paper).relative_to(recipes.ROOT)} {'renewed' if renewed else 'as before'}")
        return 0
    from benchmarks.planning.tables import print_plan

    devices, price = number(options.devices, "DEVICES", int), number(options.price, "PRICE", float)
    if not 0 < options.utilisation <= 1:
        raise UserError(f"--utilisation {options.utilisation}: a share above 0 and up to 1 is needed")
    recipe = recipes.load(options.paper)
    card = gpu(options.gpu or stages.card_of(recipe))
    arms = tuple(options.arms.replace(",", " ").split())
    planned = stages.plan(
        options.paper, card.name, devices, options.seeds, arms, options.utilisation, options.runs, options.fresh
    )
    print_plan(options.paper, recipe, planned, card, price, options.utilisation, options.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
