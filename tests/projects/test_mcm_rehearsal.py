"""MCM's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest

from benchmarks import report, reproduce

STAGES = {"distill": 1, "distill_animatediff": 1, "evaluate": 2, "evaluate_animatediff": 1}
ARMS = ("teacher", "ddim", "dpm", "lcm", "mcm", "mcm_videos", "animatediff_mcm")


@pytest.mark.timeout(900)  # minutes on two busy cores
def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "REPORTS", tmp_path / "reports")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code = reproduce.main(["mcm", "--scale", "rehearsal", "--runs", str(tmp_path / "runs"), "--jobs", "1"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    runs = tmp_path / "runs/mcm/rehearsal"
    assert {stage: len(list(runs.glob(f"{stage}-*/seed0/done.json"))) for stage in STAGES} == STAGES
    assert "covered: 4 of 4 stages" in shown and "in two processes" in shown
    assert shown.count("resumed after step 1 with equal weights") == 2
    for arm in ARMS:
        assert f"\n{arm} " in shown  # its row of the table
    for done in runs.glob("evaluate*/seed0/done.json"):
        metrics = json.loads(done.read_text())["metrics"]
        assert {f"{name}_{steps}" for name in ("frame_fd", "video_fd", "clipsim") for steps in (1, 2)} <= set(metrics)


@pytest.mark.parametrize("scale", ["mini", "paper", "rehearsal"])
def test_the_page_knows_the_arms_of_every_scale(scale):
    from benchmarks.recipes import load
    from benchmarks.tables import load_paper

    load_paper("mcm", list(load("mcm").arms(scale)))
