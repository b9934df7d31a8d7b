"""SiT's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("sit", tmp_path, request, capsys, {"slim": 5}, {"evaluate": 6})
    for metrics in found.metrics("evaluate"):
        assert 0 <= metrics["accuracy"] <= 100 and metrics["macs"] > 0
