"""ModularStarEncoder's paper configs, run on stand-ins from the first stage to the table."""

from projects.modular_star_encoder.recipe import RECIPE
from tests.projects.rehearsing import rehearse

DEPTHS = (11, 25, 50, 75, 100)


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    fits = {"pretrain": 1, "finetune": 1, "clones": 1}
    found = rehearse("modular_star_encoder", tmp_path, request, capsys, fits, {"evaluate": 3, "clones_test": 1})
    assert found.shown.count("equal weights; in two processes") == len(fits)  # all train on many GPUs
    assert "weights model.safetensors" in found.shown  # the released trunk, by its parameters' names
    # the fine-tuned one and the released one; the third has one exit
    whole, _ = (metrics for metrics in found.metrics("evaluate") if "mrr_11" in metrics)
    names = ("mrr", "r1", "ndcg", "params", "gflops", "poj104_map", "mrr_ruby", "mrr_php", "val_mrr")
    assert {f"{name}_{depth}" for name in names for depth in DEPTHS} <= set(whole)
    assert whole["params_11"] < whole["params_100"] and whole["paper_flops_saved"] > 0.85
    (clones,) = found.metrics("clones_test")
    assert {f"f1_{depth}" for depth in DEPTHS} <= set(clones)
    for arm in RECIPE.arms("rehearsal"):
        assert f"\n{arm} " in found.shown  # its row of the table
