"""MCM's paper configs, run on stand-ins from the first stage to the table."""

import pytest

from tests.projects.rehearsing import rehearse

ARMS = ("teacher", "ddim", "dpm", "lcm", "mcm", "mcm_videos", "animatediff_mcm")


@pytest.mark.timeout(900)  # minutes on two busy cores
def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    fits = {"distill": 1, "distill_animatediff": 1}
    found = rehearse("mcm", tmp_path, request, capsys, fits, {"evaluate": 2, "evaluate_animatediff": 1})
    assert "in two processes" in found.shown
    for arm in ARMS:
        assert f"\n{arm} " in found.shown  # its row of the table
    for metrics in found.metrics("evaluate") + found.metrics("evaluate_animatediff"):
        assert {f"{name}_{steps}" for name in ("frame_fd", "video_fd", "clipsim") for steps in (1, 2)} <= set(metrics)


@pytest.mark.parametrize("scale", ["mini", "paper", "rehearsal"])
def test_the_page_knows_the_arms_of_every_scale(scale):
    from benchmarks.judging.tables import load_paper
    from benchmarks.running.recipes import load

    load_paper("mcm", list(load("mcm").arms(scale)))
