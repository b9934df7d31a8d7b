"""A run that was killed continues from its last checkpoint and ends as if nothing had happened, bit for bit."""

import json
from pathlib import Path

import pytest

from benchmarks.running.results import curves
from common.training.checkpoints import checkpoints
from tests.common import tiny_stage

STEPS = [
    "--threads",
    "1",
    "--trainer.accelerator",
    "cpu",
    "--trainer.log_every_n_steps",
    "1",
    "--trainer.max_steps",
    "20",
]
EPOCHS = ["--checkpoint_every", "4"]  # 6 batches an epoch, each followed by a validation: 12 is a step with both
SETTINGS = {
    "epochs": EPOCHS,
    "workers": [*EPOCHS, "--data.num_workers", "2"],
    "boundaries": ["--checkpoint_every", "6"],
    "without validation": ["--checkpoint_every", "6", "--trainer.limit_val_batches", "0"],
    "interval": [
        "--checkpoint_every",
        "5",
        "--trainer.val_check_interval",
        "5",
        "--trainer.check_val_every_n_epoch=null",
    ],
    "every step": ["--checkpoint_every", "1", "--trainer.val_check_interval", "1"],
    "accumulation": [*EPOCHS, "--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "10"],
    "number of epochs": [*EPOCHS, "--trainer.max_steps", "-1", "--trainer.max_epochs", "3"],
    "short epochs": [*EPOCHS, "--trainer.limit_train_batches", "4"],
}


def run(folder: Path, *argv: str, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """Exit code and output of a fit."""
    log = folder.with_suffix(".log")
    process = tiny_stage.start(["fit", *STEPS, "--run_dir", str(folder), *argv], log, environment)
    process.join(240)
    return process.exitcode, log.read_text()


def record(folder: Path) -> dict:
    return json.loads((folder / "done.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    """The folder of an undisturbed run, by the name of its settings."""
    folders: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("undisturbed") / "run"
            code, output = run(folders[name], *SETTINGS[name])
            assert code == 0, output
        return folders[name]

    return get


@pytest.mark.parametrize(
    ("settings", "kill"),
    [
        ("epochs", "train:5"),  # in the middle of the first epoch
        ("epochs", "train:7"),  # resumes in the first epoch, was killed in the second
        ("epochs", "val:12"),  # in the validation that the checkpoint waits for
        ("epochs", "train:13"),  # from a checkpoint made at the end of an epoch
        ("epochs", "end:0"),  # after the last step
        ("workers", "train:5"),
        ("workers", "train:7"),
        ("workers", "train:13"),
        ("number of epochs", "train:5"),
        ("number of epochs", "train:9"),
        ("boundaries", "train:6"),
        ("boundaries", "train:14"),
        ("without validation", "train:13"),
        ("interval", "val:10"),
        ("interval", "train:16"),
        ("every step", "val:9"),
        ("every step", "end:0"),
        ("accumulation", "train:6"),
        ("short epochs", "train:8"),
        ("short epochs", "train:11"),
    ],
)
def test_killed_run_ends_like_an_undisturbed_one(undisturbed, tmp_path: Path, settings: str, kill: str) -> None:
    reference = undisturbed(settings)
    folder = tmp_path / "run"
    arguments = [*SETTINGS[settings], "--model.disturb", f"kill@{kill}"]
    code, _ = run(folder, *arguments)
    assert code == -9 and not (folder / "done.json").exists() and checkpoints(folder / "checkpoints")
    code, output = run(folder, *arguments)
    assert code == 0 and "continuing from" in output, output
    assert (folder / "weights.safetensors").read_bytes() == (reference / "weights.safetensors").read_bytes()
    assert record(folder)["metrics"] == record(reference)["metrics"]
    assert record(folder)["cost"]["flops"] == record(reference)["cost"]["flops"] > 0
    assert curves(folder) == curves(reference)


@pytest.mark.parametrize(
    ("settings", "where", "step"),
    [
        ("epochs", "train:5", 6),
        ("epochs", "train:11", 12),  # validation follows, and the checkpoint waits for it
        ("epochs", "val:12", 13),
        ("accumulation", "train:6", 7),
        ("every step", "end:0", None),  # too late to matter
    ],
)
def test_a_run_whose_time_is_nearly_up_saves_its_step_and_goes_on_later(
    undisturbed, tmp_path: Path, settings: str, where: str, step: int | None
) -> None:
    folder = tmp_path / "run"
    arguments = [*SETTINGS[settings], "--model.disturb", f"usr1@{where}"]
    code, output = run(folder, *arguments)
    if step is not None:
        assert code == 143 and "goes on from the last checkpoint" in output
        assert checkpoints(folder / "checkpoints")[0].name == f"step={step}.ckpt"
        code, output = run(folder, *arguments)
    assert code == 0, output
    assert (folder / "weights.safetensors").read_bytes() == (undisturbed(settings) / "weights.safetensors").read_bytes()
    assert record(folder)["metrics"] == record(undisturbed(settings))["metrics"]
    assert curves(folder) == curves(undisturbed(settings))
