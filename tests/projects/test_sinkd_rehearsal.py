"""SinKD's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest

from benchmarks import report, reproduce
from projects.sinkd.recipe import GLUE, LOSSES, TOY


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "REPORTS", tmp_path / "reports")
        patch.setenv("WANDB_MODE", "disabled")
        code = reproduce.main(["sinkd", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")])
    shown = capsys.readouterr().out
    assert code == 0, shown
    runs = tmp_path / "runs/sinkd/rehearsal"

    def done(stage: str) -> list[dict]:
        return [json.loads(path.read_text()) for path in runs.glob(f"{stage}-*/seed0/done.json")]

    trained = [f"{kind}_{task}" for kind in ("teacher", "student") for task in GLUE]
    assert f"covered: {len(trained) + 2} of {len(trained) + 2} stages" in shown
    assert shown.count("resumed after step 1 with equal weights") == len(trained)
    for stage in trained:
        assert done(stage)
        assert {"train/loss", "val/score"} <= set(done(stage)[0]["metrics"])
    assert len(done("toy")) == len(TOY) and len(done("evaluate")) == 2  # the teacher, and a student for every loss
    scores = {*GLUE, "mnli_mm", "score", "accuracy", "macro_f1", "agreement", "distance", "params"}
    assert all(scores <= set(found["metrics"]) for found in done("evaluate"))
    for arm in ("teacher", *LOSSES, *TOY):
        assert f"\n{arm} " in shown  # its row of the table
