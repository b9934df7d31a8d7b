"""The command line of `scripts.weights`."""

import argparse
import sys
from pathlib import Path

from huggingface_hub import constants

import scripts.weights
from benchmarks.running import recipes
from common.errors import UserError, refuse_control_in, unknown, user_errors
from scripts.weights import cache
from scripts.weights.catalogue import PACKAGED
from scripts.weights.fill import fill


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """Fill the cache; 2 where a model could not be had, after all others were tried."""
    command = argparse.ArgumentParser(
        prog="python -m scripts.weights", description=scripts.weights.__doc__.split("\n")[0]
    )
    command.add_argument(
        "models", nargs="*", help=f"hub ids, or a recipe for those of its SCALE=small (default: {', '.join(PACKAGED)})"
    )
    options = command.parse_args(arguments)
    refuse_control_in(options)
    place, failed = Path(constants.HF_HUB_CACHE), False
    for hub_id in wanted(options.models):
        try:
            written = fill(place, hub_id)
        except UserError as error:
            print(f"error: {hub_id}: {error}", file=sys.stderr)
            failed = True
            continue
        known = cache.present(place, hub_id) if written is None else None
        print(f"{hub_id}: {f'was there before, {known}' if known else described(hub_id, written)}", flush=True)
    return 2 if failed else 0


def wanted(words: list[str]) -> list[str]:
    """The hub ids that words stand for, each once; UserError for one that no package has."""
    ids = [hub_id for word in words for hub_id in ([word] if "/" in word else models_of(word))]
    for hub_id in ids:
        if hub_id not in PACKAGED:
            raise unknown("packaged model", hub_id, PACKAGED)
    return list(dict.fromkeys(ids)) or list(PACKAGED)


def models_of(paper: str) -> list[str]:
    """What a recipe needs at small scale."""
    small = recipes.load(paper).small
    if small is None:
        raise UserError(f"{paper} has no SCALE=small, and needs no models for it")
    return [model.id for model in small.models]


def described(hub_id: str, written: Path | None) -> str:
    packaged = PACKAGED[hub_id]
    differs = f", {packaged.differs}" if packaged.differs else ""
    return f"from {packaged.pin} ({packaged.licence}{differs}), {written}"


if __name__ == "__main__":
    sys.exit(main())
