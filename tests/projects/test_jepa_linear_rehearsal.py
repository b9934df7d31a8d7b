"""Deep linear JEPA's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"network": 4, "static": 3, "temporal": 2, "average": 1, "relu": 2, "unaligned": 2, "unstopped": 1}
    found = rehearse("jepa_linear", tmp_path, request, capsys, trained, {"theory": 2, "evaluate": 13})
    for metrics in found.metrics("theory"):
        assert metrics["closed_form_error"] < 1e-5 and metrics["lambda_rank"] == -1
    for metrics in found.metrics("evaluate"):
        assert metrics["growth"] > 0 and 0 <= metrics["learned"] <= 1
