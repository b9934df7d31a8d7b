"""The stages' command line: what a run leaves behind, what befalls it, and what it says then."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from common import cli
from common.data.files import write_atomic
from common.errors import UserError
from common.paths import runs_folder
from common.training.checkpoints import checkpoints, readable
from common.training.runs import locked, saved_pictures
from common.training.weights import load_state
from tests.common import tiny_stage

CPU = ["--trainer.accelerator", "cpu", "--threads", "1"]
FIT = ["fit", *CPU, "--trainer.log_every_n_steps", "1", "--trainer.max_steps", "10", "--checkpoint_every", "2"]
# 6 batches an epoch, each epoch followed by a validation: step 7 is batch 1 of epoch 1
TEST = ["test", *CPU]


def run(
    folder: Path, *argv: str, environment: dict[str, str] | None = None, log: Path | None = None
) -> tuple[int | None, str]:
    """Exit code and output of a stage in a run folder."""
    log = log or folder.with_suffix(".log")
    log.unlink(missing_ok=True)
    process = tiny_stage.start([*argv, "--run_dir", str(folder)], log, environment)
    process.join(240)
    return process.exitcode, log.read_text()


def record(folder: Path) -> dict:
    return json.loads((folder / "done.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    code, output = run(folder, *FIT)
    assert code == 0, output
    return folder


def ends_like(undisturbed: Path, folder: Path, *argv: str) -> str:
    """Check that the command now runs to the undisturbed end, bit for bit; returns its output."""
    code, output = run(folder, *FIT, *argv)
    assert code == 0, output
    assert (folder / "weights.safetensors").read_bytes() == (undisturbed / "weights.safetensors").read_bytes()
    assert record(folder)["metrics"] == record(undisturbed)["metrics"]
    return output


def killed(folder: Path, at: str = "train:7") -> list[str]:
    """Leave the folder as kill -9 leaves it; returns what to add to the command."""
    disturb = ["--model.disturb", f"kill@{at}"]
    assert run(folder, *FIT, *disturb)[0] == -9
    return disturb


def test_a_finished_run_leaves_weights_metrics_and_cost(undisturbed: Path) -> None:
    done = record(undisturbed)
    assert set(done["metrics"]) == {"train/loss", "val/error"}
    assert done["cost"]["flops"] > 0 and 0 < done["cost"]["seconds"] <= done["wall_seconds"]
    assert torch.__version__.startswith(done["versions"]["torch"]) and done["hardware"]["cores"] == os.cpu_count()
    assert set(load_state(undisturbed / "weights.safetensors")) == {
        f"net.{layer}.{name}" for layer in (0, 3) for name in ("weight", "bias")
    }
    assert [path.stem for path in checkpoints(undisturbed / "checkpoints")] == ["step=10", "step=8"]
    assert "max_steps: 10" in (undisturbed / "config.yaml").read_text()


def test_a_finished_folder_is_finished_for_its_settings_only(undisturbed: Path) -> None:
    before = {path: path.read_bytes() for path in (undisturbed / "config.yaml", undisturbed / "done.json")}
    for other, said in (
        (
            ["--trainer.max_steps", "12", "--model.lr", "0.1"],
            "model.lr was 0.05, now 0.1; trainer.max_steps was 10, now",
        ),
        (["--trainer.fast_dev_run", "true"], "trainer.fast_dev_run was false, now true"),
        (["--data.size", "27"], "data.size was 26, now 27"),
    ):
        code, output = run(undisturbed, *FIT, *other)
        assert code == 2 and f"error: {undisturbed} is finished, with other settings: {said}" in output, output
        assert "another --run_dir" in output and "Traceback" not in output
    code, output = run(undisturbed, *TEST)
    assert code == 2 and 'subcommand was "fit", now "test"' in output, output
    assert {path: path.read_bytes() for path in before} == before


def test_trying_whether_everything_runs_leaves_nothing_that_counts(undisturbed: Path, tmp_path: Path) -> None:
    code, output = run(tmp_path / "run", *FIT, "--trainer.fast_dev_run", "true")
    assert code == 0 and "nothing was kept" in output, output
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not left & {"done.json", "weights.safetensors", "checkpoints", "config.yaml", "wandb"}, left
    ends_like(undisturbed, tmp_path / "run")


def test_a_damaged_mark_does_not_count(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run/done.json").write_text("")
    assert "continuing from" in ends_like(undisturbed, tmp_path / "run")


def test_the_same_command_again_does_nothing(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    code, output = run(undisturbed, *FIT)
    assert code == 0 and "is finished; remove the folder" in output
    after = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert {p for p in after if after[p] != before.get(p)} <= {undisturbed / ".lock"}


def test_an_evaluation_leaves_metrics_and_pictures_and_no_weights(tmp_path: Path) -> None:
    code, output = run(tmp_path / "run", *TEST)
    assert code == 0, output
    assert set(record(tmp_path / "run")["metrics"]) == {"error"}
    assert [picture["key"] for picture in saved_pictures(tmp_path / "run")] == ["sample 0", "sample 1"]
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize(("signal", "expected"), [("interrupt", 130), ("term", 143)])
def test_an_interrupted_training_goes_on(undisturbed: Path, tmp_path: Path, signal: str, expected: int) -> None:
    disturb = ["--model.disturb", f"{signal}@train:7"]
    code, output = run(tmp_path / "run", *FIT, *disturb)
    assert code == expected and "the same command goes on from the last checkpoint" in output, output
    assert "Traceback" not in output and not (tmp_path / "run" / "done.json").exists()
    assert "continuing from" in ends_like(undisturbed, tmp_path / "run", *disturb)


@pytest.mark.parametrize(("signal", "expected"), [("interrupt", 130), ("term", 143)])
@pytest.mark.parametrize("command", ["test", "predict"])
def test_an_interrupted_evaluation_runs_again(tmp_path: Path, command: str, signal: str, expected: int) -> None:
    argv = [command, *CPU, "--model.disturb", f"{signal}@{command}:0"]
    code, output = run(tmp_path / "run", *argv)
    assert code == expected and "Traceback" not in output, output
    assert not (tmp_path / "run" / "done.json").exists()
    code, output = run(tmp_path / "run", *argv)
    assert code == 0 and (tmp_path / "run" / "done.json").exists(), output


@pytest.mark.parametrize(("what", "said"), [("nan", "the loss is nan"), ("nan_grad", "the gradient is not finite")])
def test_a_loss_that_is_not_finite_stops_the_run(undisturbed: Path, tmp_path: Path, what: str, said: str) -> None:
    disturb = ["--model.disturb", f"{what}@train:7"]
    code, output = run(tmp_path / "run", *FIT, *disturb)
    assert code == 2 and "Traceback" not in output, output
    good = tmp_path / "run" / "checkpoints" / "step=6.ckpt"
    assert f"error: {said} at step 7 (epoch 1, batch 1)" in output and f"Last good checkpoint: {good}" in output
    ends_like(undisturbed, tmp_path / "run", *disturb)  # nothing that is not finite has got into what was saved


def test_a_truncated_checkpoint_gives_way_to_the_one_before(undisturbed: Path, tmp_path: Path) -> None:
    disturb = killed(tmp_path / "run", "train:9")
    newest, before = checkpoints(tmp_path / "run" / "checkpoints")
    os.truncate(newest, newest.stat().st_size // 2)
    output = ends_like(undisturbed, tmp_path / "run", *disturb)
    assert f"{newest} is truncated or damaged; trying {before}" in output and f"continuing from {before}" in output


def test_without_a_good_checkpoint_a_run_starts_afresh(undisturbed: Path, tmp_path: Path) -> None:
    disturb = killed(tmp_path / "run")
    for path in checkpoints(tmp_path / "run" / "checkpoints"):
        write_atomic(path, b"")
    output = ends_like(undisturbed, tmp_path / "run", *disturb)
    assert "starting afresh" in output and "continuing from" not in output


def test_a_checkpoint_given_by_hand_must_be_one(tmp_path: Path) -> None:
    code, output = run(tmp_path / "run", *FIT, "--ckpt_path", str(tmp_path / "none.ckpt"))
    assert code == 2 and f"error: no checkpoint at {tmp_path / 'none.ckpt'}" in output
    (tmp_path / "torn.ckpt").write_bytes(b"PK torn")
    code, output = run(tmp_path / "run", *FIT, "--ckpt_path", str(tmp_path / "torn.ckpt"))
    assert code == 2 and f"error: {tmp_path / 'torn.ckpt'} is truncated or not a checkpoint" in output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("last", "--ckpt_path last: there is no checkpoint in"),
        ("best", "--ckpt_path best: stages keep their 2 newest checkpoints, and none of that name"),
        ("hpc", "--ckpt_path hpc: stages keep"),
        ("registry:model", "needs the package litmodels"),
        ("file:///no/such.ckpt", "no checkpoint at /no/such.ckpt"),
    ],
)
def test_names_of_checkpoints(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        cli.given_checkpoint(given, str(tmp_path))


def test_the_last_checkpoint_and_a_url(undisturbed: Path) -> None:
    newest = str(checkpoints(undisturbed / "checkpoints")[0])
    assert cli.given_checkpoint("last", str(undisturbed)) == newest
    assert cli.given_checkpoint(f"file://{newest}", None) == newest
    assert cli.given_checkpoint("https://example.org/a.ckpt", None) == "https://example.org/a.ckpt"


def test_a_flipped_bit_is_found(undisturbed: Path, tmp_path: Path) -> None:
    content = bytearray(checkpoints(undisturbed / "checkpoints")[0].read_bytes())
    (tmp_path / "whole.ckpt").write_bytes(content)
    assert readable(tmp_path / "whole.ckpt")
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as parts:
        largest = max(parts.infolist(), key=lambda part: part.file_size)
    position = content.index(b"", largest.header_offset + 30 + len(largest.filename) + 64 + largest.file_size // 2)
    content[position] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    assert not readable(tmp_path / "flipped.ckpt")


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    """A change that leaves out what these keys lead to."""

    def change(content: dict[str, Any]) -> Any:
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return content

    return change


def with_(value: Any, *keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> Any:
        inner: Any = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return content

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [content],
        lambda content: torch.zeros(3),
        without("state_dict"),
        without("callbacks"),
        without("loops"),
        without("optimizer_states"),
        without("lr_schedulers"),
        without("pytorch-lightning_version"),
        without("callbacks", "StepCheckpoints"),
        without("callbacks", "RandomState"),
        without("callbacks", "RandomState", "numpy"),
        without("callbacks", "Cost", "seconds"),
        without("state_dict", "net.0.weight"),
        without("loops", "fit_loop"),
        with_(torch.zeros(2, 2), "state_dict", "net.0.weight"),
        with_({}, "callbacks"),
        with_({"metrics": [1]}, "callbacks", "StepCheckpoints"),
        with_("x", "callbacks", "Cost", "seconds"),
        with_([1, 2], "callbacks", "RandomState", "python"),
        with_(torch.zeros(3), "callbacks", "RandomState", "torch"),
        with_([], "optimizer_states"),
        with_([], "lr_schedulers"),
        with_("x", "optimizer_states"),
        with_(3, "pytorch-lightning_version"),
        with_("x", "loops"),
    ],
)
def test_a_checkpoint_of_another_make_is_one_sentence(
    undisturbed: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: two dozen stages would take a minute."""
    content = torch.load(checkpoints(undisturbed / "checkpoints")[1], weights_only=True)
    torch.save(change(content), tmp_path / "other.ckpt")
    arguments = [*FIT, "--run_dir", str(tmp_path / "run"), "--ckpt_path", str(tmp_path / "other.ckpt")]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setattr(sys, "argv", ["tiny_stage.py"])
        cli.main(tiny_stage.TinyModel, tiny_stage.TinyData, arguments, tiny_stage.links)
    said = capsys.readouterr().err
    assert end.value.code == 2 and f"error: {tmp_path / 'other.ckpt'} does not fit this stage: " in said, said
    assert said.count("\n") == 1 and not (tmp_path / "run/done.json").exists()


EXTRA = "tests.common.tiny_stage.Extra"


@pytest.mark.parametrize(
    "given",
    [
        {"extra": {"class_path": EXTRA, "init_args": {"says": "no data at /x: get it"}}},
        {"extra": {"class_path": EXTRA, "init_args": {
            "inner": {"class_path": EXTRA, "init_args": {"says": "no data at /x: get it"}}}}},
        {"extras": {"a": [None, {"class_path": EXTRA, "init_args": {"says": "no data at /x: get it"}}]}},
    ],
)  # fmt: skip
def test_an_error_inside_an_optional_part_is_one_sentence(
    tmp_path: Path, given: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"model": given}))
    monkeypatch.setattr(sys, "argv", ["tiny_stage.py"])
    arguments = [*FIT, "--config", str(tmp_path / "config.yaml"), "--run_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        cli.main(tiny_stage.TinyModel, tiny_stage.TinyData, arguments, tiny_stage.links)
    assert end.value.code == 2 and capsys.readouterr().err == "error: no data at /x: get it\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_fills_up_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """The next checkpoint goes to the device on which every write finds no space."""
    disturb = killed(tmp_path / "run")
    saved = {path: path.read_bytes() for path in checkpoints(tmp_path / "run" / "checkpoints")}
    (tmp_path / "run" / "checkpoints" / ".saving").symlink_to("/dev/full")
    code, output = run(tmp_path / "run", *FIT, *disturb)
    assert code == 2 and "Traceback" not in output, output
    assert "error: the disk is full: " in output and f" at {tmp_path / 'run'}" in output
    assert "Free some space and run the same command again" in output
    assert {path: path.read_bytes() for path in checkpoints(tmp_path / "run" / "checkpoints")} == saved
    ends_like(undisturbed, tmp_path / "run", *disturb)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mounting a small file system needs more rights: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 24])
def test_a_full_file_system_loses_nothing(undisturbed: Path, small_disk: Path, free: int) -> None:
    folder = small_disk / "run"
    disturb = killed(folder)
    saved = {path: path.read_bytes() for path in checkpoints(folder / "checkpoints")}
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - free * 1024)))
    code, output = run(folder, *FIT, *disturb, log=small_disk.with_suffix(".log"))
    assert code == 2 and "Traceback" not in output, output
    assert "error: the disk is full: 0 MiB are left at " in output and str(small_disk) in output
    left = checkpoints(folder / "checkpoints")
    assert left and all(map(readable, left)) and saved.keys() & set(left)
    filler.unlink()
    ends_like(undisturbed, folder, *disturb)


@pytest.mark.skipif(not Path("/sys").exists(), reason="no /sys, where not even root may create a folder")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = tiny_stage.start([*FIT, "--run_dir", "/sys/distillery"], log)
    process.join(240)
    output = log.read_text()
    assert process.exitcode == 2 and output.count("\n") == 1, output
    assert "error: no access to /sys/distillery" in output and "RUNS=<folder>" in output and "--run_dir" in output


def test_a_second_process_waits_for_the_first(undisturbed: Path) -> None:
    log = undisturbed.with_suffix(".second.log")
    with locked(undisturbed, "this test"):
        process = tiny_stage.start([*FIT, "--run_dir", str(undisturbed)], log)
        deadline = time.monotonic() + 240
        while "waiting for it" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"is already running (process {os.getpid()}); waiting for it" in log.read_text()
        assert process.is_alive()
    process.join(240)
    assert process.exitcode == 0 and "is finished" in log.read_text()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_too_many_unreadable_samples_stop_the_run(tmp_path: Path, workers: str) -> None:
    code, output = run(tmp_path / "run", *FIT, "--data.broken", "1", "--data.num_workers", workers)
    assert code == 2 and "Traceback" not in output, output
    assert "unreadable sample 1 of 26: numbers/0.npy: cannot be decoded" in output
    assert "error: 1 of 26 samples cannot be read" in output and "Download these files again" in output


def test_a_few_unreadable_samples_are_passed_over(tmp_path: Path) -> None:
    short = ["--data.size", "1000", "--trainer.limit_val_batches", "0", "--trainer.max_steps", "250"]
    code, output = run(tmp_path / "run", *FIT, *short, "--data.broken", "1")  # an epoch of 1000 samples: all are read
    assert code == 0 and output.count("unreadable sample") == 1, output
    assert "unreadable sample 1 of 1000: numbers/0.npy" in output


def test_asking_for_wandb_online_in_vain_costs_a_line(tmp_path: Path) -> None:
    environment = {"WANDB_MODE": "online", "WANDB_API_KEY": "", "NETRC": str(tmp_path / "none")}
    environment |= {"HOME": str(tmp_path), "WANDB_BASE_URL": "https://127.0.0.1:9"}
    code, output = run(tmp_path / "run", *TEST, environment=environment)
    assert code == 0, output
    assert output.count("W&B: nobody is logged in") == 1 and "logging offline" in output
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "nonsense"),
        ("WANDB_BASE_URL", "localhost:8080"),
        ("WANDB_INIT_TIMEOUT", "abc"),
        ("WANDB_DIR", "/proc/none"),
        ("WANDB_SILENT", "perhaps"),
        ("WANDB_START_METHOD", "x"),
        ("WANDB_CACHE_DIR", "/proc/none"),
        ("WANDB_TAGS", ","),
        ("WANDB_RUN_ID", "a/b:c"),
        ("WANDB_PROJECT", "a/b?c"),
    ],
)
def test_a_malformed_variable_of_wandb_stops_nothing(tmp_path: Path, name: str, value: str) -> None:
    environment = {"WANDB_MODE": "offline", "HOME": str(tmp_path / "home"), name: value}
    code, output = run(tmp_path / "run", *TEST, environment=environment)
    assert code == 0 and "Traceback" not in output, output
    assert record(tmp_path / "run")["metrics"]


def test_wandb_writes_nothing_to_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    code, output = run(tmp_path / "run", *TEST, environment={"WANDB_MODE": "OFFLINE", "HOME": str(tmp_path / "home")})
    assert code == 0 and "W&B" not in output, output
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_one_subcommand_s_parser_is_built_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown in ((["--help"], ("fit", "validate", "test", "predict")), (["fti"], ("fit", "predict"))):
        with pytest.raises(SystemExit):
            cli.main(tiny_stage.TinyModel, tiny_stage.TinyData, words, tiny_stage.links)
        said = "".join(capsys.readouterr())
        assert all(name in said for name in shown)


def test_help_explains_the_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(tiny_stage.TinyModel, tiny_stage.TinyData, ["fit", "--help"], tiny_stage.links)
    shown = capsys.readouterr().out
    assert not end.value.code
    for text in ("peak learning rate.", "samples of an epoch.", "training steps between checkpoints", "--run_dir"):
        assert text in shown


def test_starting_a_stage_imports_no_tracker() -> None:
    code = "import sys, tests.common.tiny_stage; print(sorted({'wandb', 'datasets'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_a_tilde_that_the_shell_has_left_is_the_home_folder(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path / "home"), "WANDB_MODE": "disabled"}
    process = tiny_stage.start([*TEST, "--run_dir=~/run"], tmp_path / "log", environment)
    process.join(240)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert record(tmp_path / "home/run")["metrics"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has started several processes."""
    for name in ("LOCAL_RANK", "STAGE_RUN_DIR", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["projects/mobilesam/distill.py", "fit"])
    return monkeypatch


def test_processes_that_lightning_starts_share_the_first_ones_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(time, "strftime", lambda _: "first")
    assert cli.default_run_dir() == runs_folder() / f"manual/distill-first-{os.getpid()}"
    environment.setattr(time, "strftime", lambda _: "later")
    assert (
        cli.default_run_dir() == runs_folder() / f"manual/distill-later-{os.getpid()}"
    )  # a second run of the same process
    environment.setattr(time, "strftime", lambda _: "later still")
    environment.setenv("LOCAL_RANK", "1")
    assert cli.default_run_dir() == runs_folder() / f"manual/distill-later-{os.getpid()}"


def test_processes_that_torchrun_starts_share_a_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TORCHELASTIC_RUN_ID", "7f3a")
    for rank in "01":
        environment.setenv("LOCAL_RANK", rank)
        assert cli.default_run_dir() == runs_folder() / "manual/distill-7f3a"
        environment.delenv("STAGE_RUN_DIR")
    environment.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="--run_dir, or --standalone"):
        cli.default_run_dir()


def test_processes_that_slurm_starts_share_a_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SLURM_JOB_ID", "12")
    environment.setenv("SLURM_STEP_ID", "3")
    environment.setenv("SLURM_PROCID", "0")
    assert "12.3" not in cli.default_run_dir().name  # a shell on a node, where a user may start one run after another
    environment.setenv("SLURM_NTASKS", "8")
    assert cli.default_run_dir() == runs_folder() / "manual/distill-12.3"


def test_a_class_of_the_config_may_name_its_arguments_as_it_likes() -> None:
    made = cli.StageCLI._make(object.__new__(cli.StageCLI), dict, kind="siglip", self=1, args=2)
    assert made == {"kind": "siglip", "self": 1, "args": 2}
