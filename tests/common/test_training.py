"""What every stage has: its schedule, its guard, its checkpoints, its cost, its folder, its tracker."""

import errno
import fcntl
import json
import math
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from common.data.files import write_atomic
from common.errors import UserError
from common.training import runs, tracking
from common.training.callbacks import Cost, NonFiniteGuard, ProgressFile
from common.training.checkpoints import RandomState, StepCheckpoints, checkpoints, last_good, readable
from common.training.runs import disk_error, locked, save_picture, saved_pictures, write_json
from common.training.schedules import adamw


class Regression(L.LightningModule):
    """One linear layer, 3 -> 2, without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, bias=False)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(folder: Path, steps: int, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """A few steps on eight batches of four rows."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    module = settings.pop("module", None) or Regression()
    trainer = L.Trainer(max_steps=steps, default_root_dir=folder, callbacks=[*callbacks], **quiet | settings)
    trainer.fit(module, DataLoader(torch.randn(32, 3), batch_size=4))  # type: ignore[arg-type]
    return trainer


# --- schedule


def test_warm_up_is_linear_and_the_cosine_ends_at_zero() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.zeros(1))]},
        {"params": [nn.Parameter(torch.zeros(1))], "lr_scale": 0.1, "weight_decay": 0.0},
    ]
    made = adamw(groups, lr=0.4, weight_decay=0.05, warmup_steps=4, total_steps=12)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[index]
    assert made["lr_scheduler"]["interval"] == "step"  # type: ignore[index]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    rates = []
    for _ in range(14):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()  # type: ignore[union-attr]
    cosine = [0.2 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert [rate for rate, _ in rates] == pytest.approx([0.1, 0.2, 0.3, 0.4, *cosine, 0, 0], abs=1e-12)
    assert [scaled for _, scaled in rates] == pytest.approx([0.1 * rate for rate, _ in rates])


# --- callbacks


def guarded(tmp_path: Path, **trainer: Any) -> tuple[NonFiniteGuard, Any]:
    """A guard, and a trainer of two processes at step 7 in which this one's vote decides."""
    strategy = SimpleNamespace(reduce_boolean_decision=lambda vote, all: vote)
    place = {"strategy": strategy, "precision_plugin": object(), "global_step": 7, "current_epoch": 1}
    guard = NonFiniteGuard(tmp_path)
    guard.on_train_batch_start(SimpleNamespace(), Regression(), None, 3)  # type: ignore[arg-type]
    return guard, SimpleNamespace(**place | trainer)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_guard_names_step_batch_and_last_good_checkpoint(tmp_path: Path, value: float) -> None:
    for step, content in ((4, {"x": 1}), (6, None)):
        path = tmp_path / f"step={step}.ckpt"
        torch.save(content, path)
        if content is None:
            os.truncate(path, 20)
    guard, trainer = guarded(tmp_path)
    guard.on_before_backward(trainer, Regression(), torch.tensor(1e30))
    with pytest.raises(UserError) as error:
        guard.on_before_backward(trainer, Regression(), torch.tensor(value))
    said = str(error.value)
    assert said.startswith(f"the loss is {value} at step 7 (epoch 1, batch 3)")
    assert f"Last good checkpoint: {tmp_path / 'step=4.ckpt'}" in said  # the newer one is torn


def test_all_processes_stop_when_one_has_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    guard, trainer = guarded(tmp_path, strategy=SimpleNamespace(reduce_boolean_decision=lambda vote, all: True))
    with pytest.raises(UserError, match="loss of another process .* Last good checkpoint: none yet"):
        guard.on_before_backward(trainer, Regression(), torch.tensor(1.0))


def test_gradients_that_are_not_finite_stop_the_run_unless_a_scaler_deals_with_them(tmp_path: Path) -> None:
    module = Regression()
    optimizer = module.configure_optimizers()
    module.layer.weight.grad = torch.full_like(module.layer.weight, 3.0)
    guard, trainer = guarded(tmp_path)
    guard.on_before_optimizer_step(trainer, module, optimizer)
    module.layer.weight.grad[0, 0] = math.inf
    with pytest.raises(UserError, match="the gradient is not finite at step 7"):
        guard.on_before_optimizer_step(trainer, module, optimizer)
    guard, trainer = guarded(tmp_path, precision_plugin=SimpleNamespace(scaler=object()))
    guard.on_before_optimizer_step(trainer, module, optimizer)


def test_cost_counts_forward_and_backward_of_every_step(tmp_path: Path) -> None:
    cost = Cost()
    train(tmp_path, 5, cost)
    product = 2 * 4 * 3 * 2  # rows x inputs x outputs, a multiply-add is two
    assert cost.total()["flops"] == 5 * 2 * product  # output, and the weight's gradient; the input has none
    assert cost.total()["seconds"] > 0


class TwoKinds(Regression):
    """Every third step does its work twice, the first one too."""

    step_kinds = ("once", "twice")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.step_kind = "once" if batch_idx % 3 else "twice"
        more = 0.0 if batch_idx % 3 else super().training_step(batch, batch_idx)
        return super().training_step(batch, batch_idx) + more


def test_cost_counts_steps_of_every_kind(tmp_path: Path) -> None:
    plain, cost = Cost(), Cost()
    train(tmp_path / "a", 1, plain)
    train(tmp_path / "b", 5, cost, module=TwoKinds())
    assert cost.steps == {"twice": 2, "once": 3}
    assert cost.total()["flops"] == (2 * 2 + 3) * plain.total()["flops"]


def test_cost_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    cost, resumed = Cost(), Cost()
    train(tmp_path, 5, cost)
    resumed.load_state_dict(cost.state_dict())
    train(tmp_path, 3, resumed)
    assert resumed.total()["flops"] == pytest.approx(8 / 5 * cost.total()["flops"])
    assert resumed.total()["seconds"] > cost.total()["seconds"]


def test_progress_tells_step_end_and_loss(tmp_path: Path) -> None:
    train(tmp_path, 5, ProgressFile(tmp_path / "progress.json"))
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["step"] == 1 and progress["total"] == 5  # written once: two of them are half a second apart
    assert progress["loss"] > 0 and progress["seconds_left"] >= 0


def test_progress_without_an_end_or_a_finite_loss_is_still_json(tmp_path: Path) -> None:
    writer = ProgressFile(tmp_path / "progress.json")
    writer._write(SimpleNamespace(is_global_zero=True), 3, lambda: math.inf, {"loss": torch.tensor(math.nan)})  # type: ignore[arg-type]
    assert json.loads((tmp_path / "progress.json").read_text()) == {
        "step": 3, "total": None, "loss": None, "seconds_left": None
    }  # fmt: skip


# --- checkpoints


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, 7, StepCheckpoints(tmp_path / "checkpoints", every=2))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step=4.ckpt", "step=6.ckpt"]


def test_a_checkpoint_does_not_wait_for_a_validation_that_has_no_data(tmp_path: Path) -> None:
    class Unvalidated(L.LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(torch.randn(32, 3), batch_size=4)  # type: ignore[arg-type]

        def val_dataloader(self) -> list[DataLoader]:
            return []

    class Validated(Regression):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.layer(batch)

    saving = StepCheckpoints(tmp_path, every=3)
    trainer = L.Trainer(
        max_steps=7, val_check_interval=3, check_val_every_n_epoch=None, callbacks=[saving], accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Validated(), Unvalidated())
    assert [path.name for path in checkpoints(tmp_path)] == ["step=6.ckpt", "step=3.ckpt"]


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        torch.save({"step": step}, tmp_path / f"step={step}.ckpt")
    assert [path.stem for path in checkpoints(tmp_path)] == ["step=100", "step=10", "step=9"]
    assert last_good(tmp_path) == tmp_path / "step=100.ckpt"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_not_readable(tmp_path: Path, share: float) -> None:
    path = tmp_path / "step=1.ckpt"
    torch.save({"weights": torch.randn(1000)}, path)
    assert readable(path)
    os.truncate(path, int(share * path.stat().st_size))
    assert not readable(path) and last_good(tmp_path) is None


def test_a_checkpoint_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interrupts the writing, the folder holds whole checkpoints alone."""

    def torn(self: L.Trainer, path: Path) -> None:
        path.write_bytes(b"PK half")
        raise KeyboardInterrupt

    train(tmp_path, 2, StepCheckpoints(tmp_path / "checkpoints", every=2))
    monkeypatch.setattr(L.Trainer, "save_checkpoint", torn)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        train(tmp_path, 4, StepCheckpoints(tmp_path / "checkpoints", every=4))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step=2.ckpt"]


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [float(torch.rand(())), float(np.random.rand()), float(np.random.randn()), random.gauss(0, 1)]

    np.random.randn(), random.gauss(0, 1)  # both keep a second normal number for later
    torch.save(RandomState().state_dict(), tmp_path / "state")
    drawn = draw()
    restored = RandomState()
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    draw()  # what start-up draws
    restored.on_train_batch_start()
    assert draw() == drawn
    restored.on_train_batch_start()  # only before the first batch
    assert draw() != drawn


# --- run folder


def test_a_picture_of_the_same_key_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    for key, reference, value in (("a", False, 1), ("a", True, 2), ("b", False, 3), ("a", False, 4), ("c", False, 5)):
        save_picture(tmp_path, key, np.full((2, 2, 3), value, np.uint8), f"caption {value}", reference)
    found = [(p["key"], p["reference"], p["caption"]) for p in saved_pictures(tmp_path)]
    assert found == [
        ("a", False, "caption 4"),
        ("a", True, "caption 2"),
        ("b", False, "caption 3"),
        ("c", False, "caption 5"),
    ]
    assert [int(np.asarray(Image.open(p["file"]))[0, 0, 0]) for p in saved_pictures(tmp_path)] == [4, 2, 3, 5]
    assert {p["file"].name for p in saved_pictures(tmp_path)} | {"index.json"} == {
        path.name for path in (tmp_path / "pictures").iterdir()
    }


def test_a_folder_without_pictures_has_none(tmp_path: Path) -> None:
    assert saved_pictures(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", [1])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "a.json", [2])
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "b.json", b"3")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "[\n 1\n]\n")]


def test_a_lock_is_free_again_after_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("99999")  # left behind by kill -9
    with locked(tmp_path / "run", "a run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path: Path, code: int) -> None:
    file = tmp_path / "gone" / "file"
    for error in (OSError(code, "full", str(file)), OSError(code, "full"), ValueError(f"I/O error (os error {code})")):
        said = str(disk_error(error, tmp_path))
        assert "the disk is full" in said and f"MiB are left at {tmp_path}." in said and "run the same command" in said


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_without_access_is_named(tmp_path: Path, code: int) -> None:
    said = str(disk_error(OSError(code, "no", str(tmp_path / "x")), Path.cwd()))
    assert f"no access to {tmp_path / 'x'}: {os.strerror(code)}" in said and "RUNS=<folder>" in said


def test_other_errors_are_not_the_disks() -> None:
    assert disk_error(OSError(errno.EIO, "broken"), Path.cwd()) is None
    assert disk_error(ValueError("header too large"), Path.cwd()) is None


def test_the_record_of_a_run(tmp_path: Path) -> None:
    runs.finish(tmp_path, {"loss": 0.5}, {"seconds": 1.0, "flops": 2.0}, wall=3.0, cpu=2.5, settings="fit-0")
    done = json.loads((tmp_path / "done.json").read_text())
    assert (done["metrics"], done["cost"], done["wall_seconds"]) == ({"loss": 0.5}, {"seconds": 1.0, "flops": 2.0}, 3.0)
    assert (done["cpu_seconds"], done["settings"]) == (2.5, "fit-0")
    assert {"python", "torch", "lightning"} <= set(done["versions"]) and done["hardware"]["cpu"]


# --- W&B


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody is logged in; the server is this machine, where nothing listens."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "RUN_LABELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    serve(monkeypatch, 9)
    return monkeypatch


def serve(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Have W&B's settings name this port of this machine as the server."""
    import wandb

    settings = SimpleNamespace(base_url=f"http://127.0.0.1:{port}")
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=settings))


@pytest.mark.parametrize(
    ("asked", "mode"), [("disabled", "disabled"), ("offline", "offline"), ("dryrun", "offline"), ("", "offline")]
)
def test_without_a_login_runs_are_offline_without_a_word(
    nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: str, mode: str
) -> None:
    nobody.setenv("WANDB_MODE", asked)
    assert tracking.wandb_mode() == mode and not caplog.records


def test_online_without_login_or_network_is_offline_with_one_line(
    nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    nobody.setenv("WANDB_MODE", "online")
    assert tracking.wandb_mode() == "offline"
    (tmp_path / "netrc").write_text("machine 127.0.0.1:9 login user password key")
    assert tracking.wandb_mode() == "offline"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "nobody is logged in" in said[0] and "the server does not answer" in said[1]
    assert all("`wandb sync` sends the run later" in line for line in said)


@pytest.mark.parametrize("asked", ["", "online"])
def test_a_login_and_a_server_that_answers_are_online(nobody: pytest.MonkeyPatch, asked: str) -> None:
    nobody.setenv("WANDB_API_KEY", "key")
    nobody.setenv("WANDB_MODE", asked)
    with socket.create_server(("127.0.0.1", 0)) as server:
        serve(nobody, server.getsockname()[1])
        assert tracking.wandb_mode() == "online"


class Tracker:
    """Stands for `wandb.init`: the modes it was asked for, of which some fail."""

    def __init__(self, failing: tuple[str, ...]):
        self.failing, self.asked = failing, []  # type: ignore[var-annotated]

    def __call__(self, **settings: Any) -> Any:
        import wandb

        self.asked.append(settings)
        if settings["mode"] in self.failing:
            raise wandb.errors.CommError("the server refuses")
        return SimpleNamespace(define_metric=lambda *a, **k: None, finish=lambda **k: None)


@pytest.mark.parametrize(
    ("failing", "modes", "said"),
    [
        ((), ["online"], []),
        (("online",), ["online", "offline"], ["W&B: the server refuses; the run goes on offline"]),
        (("online", "offline"), ["online", "offline"], [..., "W&B: the server refuses; the run goes on without it"]),
    ],
)
def test_a_server_that_refuses_does_not_stop_the_run(
    nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, failing: Any, modes: Any, said: Any
) -> None:
    import wandb

    tracker = Tracker(failing)
    nobody.setattr(wandb, "init", tracker)
    nobody.setattr(tracking, "wandb_mode", lambda: "online")
    nobody.setattr(tracking, "WandbLogger", lambda experiment: experiment)
    nobody.setenv("RUN_LABELS", "mobilesam/mini/decoupled/distill/seed1")
    with tracking.wandb_logger(tmp_path / "distill-0/seed1", {}) as logger:
        assert (logger is None) == ("offline" in failing)
    assert [settings["mode"] for settings in tracker.asked] == modes
    assert [record.getMessage() for record in caplog.records][-1:] == said[-1:] and len(caplog.records) == len(said)
    asked = tracker.asked[0]
    assert (asked["project"], asked["group"], asked["job_type"]) == ("distillery", "mobilesam/mini", "distill")
    assert asked["name"] == "decoupled/seed1" and asked["tags"] == ["mobilesam", "mini", "decoupled"]


def test_a_damaged_picture_does_not_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs.save_picture(tmp_path, "scene", np.zeros((4, 4, 3), np.uint8), "a caption")
    runs.saved_pictures(tmp_path)[0]["file"].write_bytes(b"no picture")
    tracker = tracking.Tracker.__new__(tracking.Tracker)
    tracker._failed, tracker._experiment = False, SimpleNamespace(log=lambda *_: None)
    tracker.log_pictures(tmp_path)
    assert [record.getMessage().endswith("the run goes on without it") for record in caplog.records] == [True]


# --- run folders


def test_a_config_finds_its_paths_again_where_the_runs_were_moved(tmp_path: Path) -> None:
    for before, after in ((tmp_path / "old/runs", tmp_path / "new/runs"), (Path("runs"), tmp_path / "new/runs")):
        run = after / "paper/mini/train-1/seed0"
        (after / "foundations/f").mkdir(parents=True, exist_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        (after / "foundations/f/weights.safetensors").touch()
        (run / "model").mkdir(exist_ok=True)
        config = {
            "run_dir": str(before / "paper/mini/train-1/seed0"),
            "model": {
                "weights": str(before / "foundations/f/weights.safetensors"),
                "own": [str(before / "paper/mini/train-1/seed0/model")],
                "gone": str(before / "foundations/gone"),
                "hub": "someone/model",
                "lr": 0.1,
            },
        }
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        found = runs.run_config(run)
        assert found["run_dir"] == str(run)
        assert found["model"] == {
            "weights": str(after / "foundations/f/weights.safetensors"),
            "own": [str(run / "model")],
            "gone": config["model"]["gone"],  # type: ignore[index]
            "hub": "someone/model",
            "lr": 0.1,
        }


def test_a_run_folder_copied_alone_keeps_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    text = "run_dir: /old/runs/train-1/seed0\nmodel: {words: /old/runs/train-1/seed0/model, up: /old/runs/up}\n"
    (tmp_path / "mine/config.yaml").write_text(text)
    assert runs.run_config(tmp_path / "mine")["model"] == {"words": str(tmp_path / "mine/model"), "up": "/old/runs/up"}


BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 20))


@pytest.mark.parametrize("content", [None, "", "[1]", "a: [", "\x00", "a: &a [*a]", "[" * 5000, BOMB])
def test_what_is_no_run_folder_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match="is no run folder|is damaged"):
        runs.run_config(tmp_path)


@pytest.mark.parametrize("config", ["a: 1", "model: 5", "model: {size: a}", "model: {size: }", "model: []"])
def test_settings_that_are_not_there_are_said(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match="config.yaml lacks what is needed here"), runs.settings_of(tmp_path) as found:
        int(found["model"]["size"])


def test_a_forked_process_lets_go_of_a_lock(tmp_path: Path) -> None:
    """A data loader's worker outlives a killed stage for seconds, and must not hold its folder."""
    with runs.locked(tmp_path, "this"):
        read, write = os.pipe()
        began, begins = os.pipe()
        child = os.fork()
        if not child:
            os.write(begins, b"x")
            os.read(read, 1)  # lives on while the parent has let go
            os._exit(0)
        os.read(began, 1)
    with open(tmp_path / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(write, b"x")
    os.waitpid(child, 0)


def test_two_that_update_a_file_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    code = (
        "import sys; from pathlib import Path; from common.training.runs import read_json, updating, write_json\n"
        "file = Path(sys.argv[1])\n"
        "for turn in range(20):\n"
        "    with updating(file):\n"
        "        write_json(file, {**(read_json(file, dict) or {}), f'{sys.argv[2]}-{turn}': 1})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(file), name]) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(json.loads(file.read_text())) == 40
