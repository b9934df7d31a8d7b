"""Fabric anomaly detection's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"residual": 3, "dg": 1, "rd": 3, "forward": 1}
    measured = {"evaluate_residual": 4, "evaluate_dg": 1, "evaluate_rd": 3, "evaluate_forward": 1, "evaluate_knn": 1}
    found = rehearse("fabric_ad", tmp_path, request, capsys, trained, measured)
    for metrics in found.metrics("evaluate_residual"):
        assert 0 <= metrics["image_auroc"] <= 1 and 0 <= metrics["val_pixel_auroc"] <= 1
