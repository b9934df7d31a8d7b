"""PromptKD's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("promptkd", tmp_path, request, capsys, {"teach": 6, "distill": 7}, {"evaluate": 12})
    for arm in ("zero_shot", "teacher", "supervised", "promptkd", "cross_dtd"):
        assert f"\n{arm} " in found.shown  # its row of the table
    for metrics in found.metrics("evaluate"):
        assert {"base", "novel", "hm", "accuracy", "hm_val", "trained"} <= set(metrics)
