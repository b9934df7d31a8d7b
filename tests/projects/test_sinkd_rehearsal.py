"""SinKD's paper configs, run on stand-ins from the first stage to the table."""

from projects.sinkd.recipe import GLUE, PAPER, TOY
from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = dict.fromkeys([f"{kind}_{task}" for kind in ("teacher", "student") for task in GLUE], 1)
    # evaluated are the teacher, and a student for every loss; published are a teacher and a student
    others = {"toy": len(TOY), "evaluate": 2, "evaluate_released": 2}
    found = rehearse("sinkd", tmp_path, request, capsys, trained, others)
    for stage in trained:
        assert {"train/loss", "val/score"} <= set(found.metrics(stage)[0])
    scores = {*GLUE, "mnli_mm", "score", "val_score", "accuracy", "macro_f1", "agreement", "distance", "params"}
    assert all(scores <= set(metrics) for metrics in found.metrics("evaluate"))
    teacher, student = found.metrics("evaluate_released")
    assert {teacher["agreement"], student["agreement"]} >= {1} and scores <= set(teacher)
    for arm in ("teacher", "released_teacher", "released", *PAPER, *TOY):
        assert f"\n{arm} " in found.shown  # its row of the table
