"""A rehearsal notices a stage that does not resume to where it would have come undisturbed."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import reproduce
from benchmarks.running import recipes, rehearsal
from benchmarks.running.recipes import Job
from common.recipe import Stage


@pytest.fixture
def job(tmp_path) -> Job:
    """A training stage that ran two steps."""
    (tmp_path / "checkpoints").mkdir()
    for step, seconds in ((1, 3.0), (2, 4.0)):
        torch.save({"callbacks": {"Cost": {"cpu_seconds": seconds}}}, tmp_path / f"checkpoints/step={step}.ckpt")
    (tmp_path / "weights.safetensors").write_text("weights.safetensors")
    (tmp_path / "done.json").write_text('{"metrics": {}, "cost": {}, "wall_seconds": 1, "cpu_seconds": 5}')
    (tmp_path / "log.txt").write_text("")
    return Job(Stage("fit", "module"), 0, "", tmp_path, [], [], {})


def test_rewinding_leaves_the_first_checkpoint(job):
    rehearsal.rewind(job)
    left = {str(path.relative_to(job.run_dir)) for path in job.run_dir.rglob("*") if path.is_file()}
    assert left == {"checkpoints/step=1.ckpt", "log.txt", rehearsal.UNDISTURBED, rehearsal.FIRST}
    assert job.done is None
    (job.run_dir / "done.json").write_text('{"cpu_seconds": 4.5}')  # of the resumed run, with the 3 before it
    assert rehearsal.cpu_seconds(job) == 5 + 1.5


@pytest.mark.parametrize(
    ("log", "weights", "equal"),
    [
        ("continuing from step=1.ckpt\n", "weights.safetensors", True),
        ("continuing from step=1.ckpt\n", "other", False),
        ("Seed set to 0\n", "weights.safetensors", False),  # it began anew, and so came out the same
    ],
)
def test_a_resumed_run_must_continue_and_meet_the_undisturbed_one(job, log, weights, equal):
    rehearsal.rewind(job)
    (job.run_dir / "log.txt").write_text(log)
    Path(job.run_dir, "weights.safetensors").write_text(weights)
    assert rehearsal.resumed_equal(job) is equal


@pytest.mark.parametrize(
    ("trainer", "several"),
    [
        ("{devices: 2}", True),
        ("{num_nodes: 2}", True),
        ("{devices: 1}", False),
        ("{devices: auto}", False),
        ("{}", False),
    ],
)
def test_a_config_says_whether_a_stage_is_for_several_devices(tmp_path, trainer, several):
    (tmp_path / "fit.yaml").write_text(f"trainer: {trainer}")
    argv = ["module", "fit", "--config", str(tmp_path / "fit.yaml"), "--trainer.devices", "1"]
    assert rehearsal.for_several_devices(Job(Stage("fit", "module"), 0, "", tmp_path, argv, [], {})) is several


def test_a_stage_for_several_devices_runs_in_two_processes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = tmp_path / "fit.yaml"
    config.write_text(
        "trainer: {devices: 8, max_steps: 2, accelerator: cpu, val_check_interval: 1}\ncheckpoint_every: 1"
    )
    argv = ["tests.common.tiny_stage", "fit", "--config", str(config), "--trainer.devices", "1"]
    argv += ["--run_dir", str(tmp_path / "seed0")]
    job = Job(Stage("fit", "tests.common.tiny_stage"), 0, "", tmp_path / "seed0", argv, [], {}, ["arm"])
    console = Console()
    outcome = rehearsal.run([job], "paper", "rehearsal", 1, console)
    assert not outcome.failed and len(outcome.ran) == 3  # once, resumed, and in two processes
    log = (tmp_path / "seed0-two-processes/log.txt").read_text()
    assert (tmp_path / "seed0-two-processes/done.json").exists(), log
    rehearsal.print_coverage([job], console)
    assert "in two processes" in capsys.readouterr().out


def test_a_recipe_without_stand_ins_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recipes, "load", lambda _: replace(recipe, stand_ins=""))
    recipe = importlib.import_module("projects.mobilesam.recipe").RECIPE
    assert reproduce.main(["mobilesam", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")]) == 2
    assert "names no `stand_ins`" in capsys.readouterr().err and not (tmp_path / "runs").exists()
