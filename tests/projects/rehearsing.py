"""The rehearsal of a recipe, as its test runs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, reproduce


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
    paper: str, root: Path, capsys: pytest.CaptureFixture[str], fits: dict[str, int], others: dict[str, int]
) -> Rehearsal:
    """Run a recipe's paper configs on stand-ins, in `root`: all stages, to the table, in so many settings of each.

    Args:
        fits: stages that train. Each must have been continued from its first step, to equal weights.
        others: the other stages.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "REPORTS", root / "reports")
        patch.setenv("WANDB_MODE", "disabled")
        code = reproduce.main([paper, "--scale", "rehearsal", "--runs", str(root / "runs")])
    found = Rehearsal(capsys.readouterr().out, root / "runs" / paper / "rehearsal")
    assert code == 0, found.shown
    stages = fits | others
    assert {stage: len(found.folders(stage)) for stage in stages} == stages
    assert f"covered: {len(stages)} of {len(stages)} stages" in found.shown
    assert found.shown.count("resumed after step 1 with equal weights") == len(fits), found.shown
    for stage in fits:
        log = (found.folders(stage)[0] / "log.txt").read_text()
        assert "continuing from" in log
    return found
