"""The rehearsal of a recipe, as its test runs it."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reproduce
from benchmarks.running import certificates, recipes


@dataclass
class Rehearsal:
    """What a rehearsal printed, and what its stages left in `runs`."""

    shown: str
    runs: Path

    def folders(self, stage: str) -> list[Path]:
        """Run folders of a stage that has finished, one for each of its settings."""
        return sorted(path.parent for path in self.runs.glob(f"{stage}-*/seed0/done.json"))

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        return [json.loads((folder / "done.json").read_text())["metrics"] for folder in self.folders(stage)]


def rehearse(
    paper: str,
    root: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    fits: dict[str, int],
    others: dict[str, int],
) -> Rehearsal:
    """Run a recipe's paper configs on stand-ins, in `root`: all stages, to the table, in so many settings of each.

    Skipped where the recipe's certificate holds and it is not its turn; `--rehearse all` runs it all the same.

    Args:
        fits: stages that train. One of each kind must have been continued from its first step, to equal weights.
        others: the other stages.
    """
    skip_unless_due(paper, request.config.getoption("rehearse"))
    code = reproduce.main([paper, "--scale", "rehearsal", "--runs", str(root / "runs")])
    found = Rehearsal(capsys.readouterr().out, root / "runs" / paper / "rehearsal")
    assert code == 0, found.shown
    stages = fits | others
    assert {stage: len(found.folders(stage)) for stage in stages} == stages
    assert f"covered: {len(stages)} of {len(stages)} stages" in found.shown
    assert found.shown.count("resumed after step 1 with equal weights") == len(fits), found.shown
    assert "\ncertificate" in found.shown, found.shown  # in the tests' own folder
    logs = [(folder / "log.txt").read_text() for stage in fits for folder in found.folders(stage)]
    assert any("continuing from" in log for log in logs) == bool(fits)  # a recipe may train nothing
    return found


def skip_unless_due(paper: str, wanted: str) -> None:
    """Skip a rehearsal that `--rehearse` does not ask for, and say why."""
    if wanted == "none":
        pytest.skip("--rehearse none")
    if wanted == "due" and paper not in due():
        pytest.skip("its certificate holds, and it is not its turn; --rehearse all runs it")


@cache
def due() -> dict[str, str]:
    """Recipes to rehearse, with the reason: asked once, for it takes a second for every four recipes."""
    return certificates.due(recipes.names())
