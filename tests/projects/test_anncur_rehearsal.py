"""ANNCUR's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse

FITS = ("dual_encoder", "emb_cross_encoder", "cls_cross_encoder", "distill_match", "distill_triplet", "distill_bert")


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    others = {"emb_scores": 2, "cls_scores": 2, "item_scores": 1, "evaluate": 20}  # ours and the authors' weights
    found = rehearse("anncur", tmp_path, request, capsys, dict.fromkeys(FITS, 1), others)
    assert "data ZeShEL" in found.shown
    for stage in FITS:
        assert {"train/loss", "val/loss"} <= set(found.metrics(stage)[0])
    for metrics in found.metrics("evaluate"):
        assert {"recall_1", "recall_10_double", "accuracy", "overlap", "recall_val"} <= set(metrics)
