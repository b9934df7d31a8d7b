"""A rehearsal notices a stage that does not resume to where it would have come undisturbed."""

from pathlib import Path

import pytest

from benchmarks import rehearsal
from benchmarks.recipes import Job
from common.recipe import Stage


@pytest.fixture
def job(tmp_path) -> Job:
    """A training stage that ran two steps."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("checkpoints/step=1.ckpt", "checkpoints/step=2.ckpt", "weights.safetensors"):
        (tmp_path / name).write_text(name)
    (tmp_path / "done.json").write_text("{}")
    (tmp_path / "log.txt").write_text("")
    return Job(Stage("fit", "module"), 0, "", tmp_path, [], [], {})


def test_rewinding_leaves_the_first_checkpoint(job):
    rehearsal.rewind(job)
    left = {str(path.relative_to(job.run_dir)) for path in job.run_dir.rglob("*") if path.is_file()}
    assert left == {"checkpoints/step=1.ckpt", "log.txt", rehearsal.UNDISTURBED}
    assert job.done is None


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
