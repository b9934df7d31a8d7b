"""ANNCUR's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest

from benchmarks import report, reproduce

FITS = {"dual_encoder", "emb_cross_encoder", "cls_cross_encoder", "distill_match", "distill_triplet", "distill_bert"}
STAGES = FITS | {"emb_scores", "cls_scores", "item_scores", "evaluate"}


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
    """Runs the rehearsal; every call in the same folder. Returns exit code and run folder."""
    root = tmp_path_factory.mktemp("rehearsal")

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "REPORTS", root / "reports")
            patch.setenv("WANDB_MODE", "disabled")
            code = reproduce.main(["anncur", "--scale", "rehearsal", "--runs", str(root / "runs")])
        return code, root / "runs/anncur/rehearsal"

    return run


def folders(runs, stage):
    return [path.parent for path in runs.glob(f"{stage}-*/seed0/done.json")]


def test_every_stage_runs_resumes_and_ends_in_the_table(rehearse, capsys):
    code, runs = rehearse()
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert {stage: len(folders(runs, stage)) for stage in STAGES} == dict.fromkeys(STAGES, 1) | {"evaluate": 13}
    assert "covered: 10 of 10 stages" in shown
    assert shown.count("resumed after step 1 with equal weights") == len(FITS)
    assert "data ZeShEL" in shown
    for stage in FITS:
        (folder,) = folders(runs, stage)
        assert "continuing from" in (folder / "log.txt").read_text()
        assert {"train/loss", "val/loss"} <= set(json.loads((folder / "done.json").read_text())["metrics"])
    for folder in folders(runs, "evaluate"):
        metrics = json.loads((folder / "done.json").read_text())["metrics"]
        assert {"recall_1", "recall_10_double", "accuracy", "overlap"} <= set(metrics)

    code, _ = rehearse()
    assert code == 0 and "\n0 stages run" in capsys.readouterr().out
