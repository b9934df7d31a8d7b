"""The fast preset: what it changes in a stage, that gradients stay, and that metrics stay within the noise of seeds."""

import json
import statistics
from functools import partial

import lightning.pytorch as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from common import cli
from common.training import preset
from common.training.preset import FastPreset, frozen, gains_from_bf16, outermost_calls, without_gradients
from tests.common.tiny_stage import TinyData, TinyModel


class Distilled(L.LightningModule):
    """A student learns a frozen teacher's features; a frozen head lets gradients through to the student."""

    def __init__(self):
        super().__init__()
        self.teacher = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).requires_grad_(False).eval()
        self.student = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 2).requires_grad_(False).eval()
        self.unused = nn.Linear(2, 2)
        self.losses = []

    def training_step(self, batch, batch_idx):
        features = self.student(batch[0])
        loss = (features - self.teacher(batch[0])).square().mean() + self.head(features.mean((2, 3))).square().mean()
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.student.parameters(), lr=0.05)


def fit(*callbacks, steps=6):
    torch.manual_seed(0)
    module = Distilled()
    images = DataLoader(TensorDataset(torch.rand(8, 3, 8, 8)), batch_size=4)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, inference_mode=False,
    )  # fmt: skip
    trainer.fit(module, images)
    return module


def test_frozen_networks_infer_and_the_student_learns_as_before():
    fast = FastPreset()
    module, plain = fit(fast), fit()
    assert fast.inferred == [module.teacher, module.head] and not fast.compiled  # too few steps to compile
    assert module.losses == pytest.approx(plain.losses, rel=1e-5) and module.losses[-1] < module.losses[0]
    assert module.student[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert set(module.state_dict()) == set(plain.state_dict())


def test_long_runs_compile_what_a_step_calls(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda forward: compiled.append(forward) or forward)
    fast = FastPreset(compile_from=4)
    module = fit(fast, steps=6)
    assert fast.compiled == [module.student, module.teacher, module.head] and len(compiled) == 3


def test_a_compiled_network_gives_the_same_losses(monkeypatch):
    # traced and differentiated as ever, but run without kernels of its own, which take long to build
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    module, plain = fit(FastPreset(compile_from=1), steps=4), fit(steps=4)
    assert module.losses == pytest.approx(plain.losses, rel=1e-4)


def test_only_the_outermost_networks_are_seen():
    module = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "b": nn.Linear(2, 2)})
    called, stop = outermost_calls(module)
    module["a"](torch.ones(1, 2))
    nn.Linear(2, 2)(torch.ones(1, 2))  # not a part of it
    module["a"](torch.ones(1, 2))
    stop()
    module["b"](torch.ones(1, 2))
    assert called == [module["a"]]


def test_a_frozen_network_passes_gradients_on_and_its_results_can_be_trained_on():
    network = nn.Linear(3, 3).requires_grad_(False).eval()
    assert frozen(network) and not frozen(nn.Linear(3, 3).eval()) and not frozen(network.train())
    inferring = without_gradients(network.forward)
    x = torch.rand(2, 3, requires_grad=True)
    inferring(x).sum().backward()
    assert x.grad is not None
    target, own = inferring(x.detach()), torch.rand(2, 3, requires_grad=True)
    assert not target.is_inference() and not target.requires_grad
    (own * target).sum().backward()
    torch.testing.assert_close(own.grad, network(x.detach()))


def run(folder, seed, *arguments):
    """The tiny stage's final metrics."""
    settings = ["--trainer.max_steps", "60", "--trainer.check_val_every_n_epoch", "10", "--checkpoint_every", "60"]
    cli.main(
        TinyModel, TinyData, ["fit", *settings, "--run_dir", str(folder), "--seed_everything", str(seed), *arguments]
    )
    return json.loads((folder / "done.json").read_text())["metrics"], (folder / "config.yaml").read_text()


def test_metrics_stay_within_the_noise_of_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(cli, "FastPreset", lambda: FastPreset(compile_from=1))
    plain = [run(tmp_path / f"plain{seed}", seed)[0]["train/loss"] for seed in range(4)]
    fast = [run(tmp_path / f"fast{seed}", seed, "--preset", "fast") for seed in range(2)]
    noise = statistics.stdev(plain)
    for seed, (metrics, config) in enumerate(fast):
        assert abs(metrics["train/loss"] - plain[seed]) < 3 * noise
        assert ("precision: bf16-mixed" in config) == gains_from_bf16()


def test_a_precision_that_is_given_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(cli, "gains_from_bf16", lambda: True)
    _, config = run(tmp_path, 0, "--preset", "fast", "--trainer.precision", "32-true")
    assert "precision: 32-true" in config and "preset: fast" in config


@pytest.mark.parametrize(
    ("flags", "gains"), [("avx2 avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 fma", False)]
)
def test_processors_that_multiply_bf16(flags, gains, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(preset, "Path", lambda _: tmp_path / "cpuinfo")
    assert gains_from_bf16() is gains
