"""MCM's paper configs, run on stand-ins from the first stage to the table."""

import pytest

from benchmarks.judging.forms import OnReported, measures
from benchmarks.judging.tables import load_paper
from benchmarks.running import recipes
from tests.projects.rehearsing import rehearse

ARMS = ("teacher", "ddim", "dpm", "lcm", "mcm", "mcm_videos", "released", "animatediff_mcm")


@pytest.mark.timeout(900)  # minutes on two busy cores
def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    fits = {"distill": 1, "distill_animatediff": 1}
    found = rehearse("mcm", tmp_path, request, capsys, fits, {"evaluate": 3, "evaluate_animatediff": 1})
    assert "in two processes" in found.shown
    for arm in ARMS:
        assert f"\n{arm} " in found.shown  # its row of the table
    for metrics in found.metrics("evaluate") + found.metrics("evaluate_animatediff"):
        assert {f"{name}_{steps}" for name in ("frame_fd", "video_fd", "clipsim") for steps in (1, 2)} <= set(metrics)


def test_the_page_names_arms_of_some_scale_and_no_others():
    load_paper("mcm", recipes.arm_names("mcm"))


def test_every_arm_of_the_papers_scale_stands_in_a_table_or_claim():
    page = recipes.page("mcm")
    named = {row.arm for table in page.tables for row in table.rows}
    tests = [claim.test for claim in page.claims if claim.test and not isinstance(claim.test, OnReported)]
    named |= {measure.arm for test in tests for measure in measures(test)}
    figures = {"only_simulated", "mcm_hlearn", "mcm_lcor"}  # of the paper's, without a table
    models = {"animatediff_teacher", "animatediff_mcm"}  # the second model's, whose table has the videos' arm
    assert set(recipes.load("mcm").arms("paper")) - named <= figures | models
