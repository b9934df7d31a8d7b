"""degla's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("degla", tmp_path, request, capsys, {"teacher": 1, "student": 2}, {"evaluate": 3})
    for arm in ("teacher", "labels", "distilled"):
        assert f"\n{arm} " in found.shown  # its row of the table
    assert all("map" in metrics for metrics in found.metrics("evaluate"))
