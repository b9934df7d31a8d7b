"""ProCLIP's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"inherit": 1, "tune": 2}
    found = rehearse("proclip", tmp_path, request, capsys, trained, {"embed_pairs": 1, "embed_tests": 1, "evaluate": 4})
    assert found.shown.count("in two processes") == 1  # stage 2 is meant for eight GPUs
    for metrics in found.metrics("evaluate"):
        assert 0 <= metrics["zero_shot"] <= 1 and 0 <= metrics["t2i"] <= 1 and 0 <= metrics["xm3600_t2i"] <= 1
