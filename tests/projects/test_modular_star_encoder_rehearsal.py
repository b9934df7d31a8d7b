"""ModularStarEncoder's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest

from benchmarks import report, reproduce
from projects.modular_star_encoder.recipe import RECIPE

DEPTHS = (11, 25, 50, 75, 100)


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "REPORTS", tmp_path / "reports")
        patch.setenv("WANDB_MODE", "disabled")
        code = reproduce.main(["modular_star_encoder", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")])
    shown = capsys.readouterr().out
    assert code == 0, shown
    runs = tmp_path / "runs/modular_star_encoder/rehearsal"
    assert "covered: 5 of 5 stages" in shown
    assert shown.count("resumed after step 1 with equal weights; in two processes") == 3  # pretrain, finetune, clones
    assert "weights model.safetensors" in shown  # the released trunk, by its parameters' names
    found = [json.loads(path.read_text())["metrics"] for path in runs.glob("evaluate-*/seed0/done.json")]
    whole = [metrics for metrics in found if "mrr_11" in metrics]
    for metrics in whole:
        names = ("mrr", "r1", "ndcg", "params", "gflops", "poj104_map", "mrr_ruby", "mrr_php")
        assert {f"{name}_{depth}" for name in names for depth in DEPTHS} <= set(metrics)
        assert metrics["params_11"] < metrics["params_100"] and metrics["paper_flops_saved"] > 0.85
    assert whole and len(found) == len(whole) + 3  # and a single exit for each such arm
    (clones,) = [json.loads(path.read_text())["metrics"] for path in runs.glob("clones_test-*/seed0/done.json")]
    assert {f"f1_{depth}" for depth in DEPTHS} <= set(clones)
    for arm in RECIPE.arms("rehearsal"):
        assert f"\n{arm} " in shown  # its row of the table
