"""Emo Pillars' paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"contextless": 2, "contextual": 1, "tune": 3, "tune_isear": 1, "tune_emocontext": 1}
    others = {"characters": 1, "utterances": 1, "levels": 1, "contexts": 1}
    others |= {"evaluate": 4, "evaluate_contextual": 2, "evaluate_isear": 1, "evaluate_emocontext": 1}
    others |= {"evaluate_released": 1}
    found = rehearse("emo_pillars", tmp_path, request, capsys, trained, others)
    for metrics in found.metrics("evaluate"):
        assert 0 <= metrics["gold"] <= metrics["gold_best"] <= 1 and 0 <= metrics["original"] <= 1
