"""Training on quantized weights and learning points: what moves, by which gradient, and the official schedule."""

import copy
from types import SimpleNamespace

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch.nn import functional as F

from common.data.images import Picture, PictureSource
from common.errors import UserError
from common.training.weights import load_state
from projects.quantized_distillation.data import Crops, Drawn, LabelledData, Part, collate
from projects.quantized_distillation.model import ConvNet, Sizes, accuracy
from projects.quantized_distillation.points import PointLearning, load_learned, point_values
from projects.quantized_distillation.quantize import Quantizer, uniform
from projects.quantized_distillation.train import Halving, Training

SMALL = Sizes(filters=[4, 6], kernel=3, units=[8], pool=[0, 1], side=8)
REAL = {
    5_346_142: Sizes([76, 76, 126, 126, 148, 148, 148, 148], 3, [1200, 1200], [1, 3, 7]),
    1_000_235: Sizes([75, 50, 50, 25], 5, [500], [1, 3]),
    318_415: Sizes([50, 25, 25, 10], 5, [400], [1, 3]),
    111_935: Sizes([25, 10, 10, 5], 5, [300], [1, 3]),
    5_825_396: Sizes([76] * 3 + [126] * 3 + [148] * 5, 3, [1000] * 3, [2, 5, 10]),
}


class Patches(PictureSource):
    classes = tuple("abcdefghij")

    def __init__(self, count=40):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(1, 256, (8, 8, 3), dtype=np.uint8)
        return Picture(image, index % 10, "", str(index))


@pytest.fixture(autouse=True)
def chance():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    return {"image": torch.rand(12, 3, 8, 8), "label": torch.arange(12) % 10}


@pytest.fixture
def trained(tmp_path):
    net = ConvNet(SMALL)
    save_model(net, str(tmp_path / "net.safetensors"))
    return str(tmp_path / "net.safetensors")


def silent(module):
    module.log = lambda *args, **kwargs: None
    return module


@pytest.mark.parametrize("count", REAL)
def test_the_papers_networks_have_their_sizes(count):
    with torch.device("meta"):
        assert sum(p.numel() for p in ConvNet(REAL[count]).parameters()) == count


def test_logits_are_not_negative_and_dropout_is_for_training():
    net = ConvNet(Sizes([4, 6], 3, [8], [0], {0: 0.5, 2: 0.5}, side=8))
    x = torch.rand(64, 3, 8, 8)
    assert net(x).min() == 0 and net(x).shape == (64, 10)
    net.eval()
    assert torch.equal(net(x), net(x))
    assert accuracy(torch.eye(10), torch.arange(10)).mean() == 1  # perfect
    assert accuracy(torch.zeros(1000, 10), torch.arange(1000) % 10).mean() == pytest.approx(0.1)  # the floor
    assert accuracy(torch.randn(20000, 10), torch.arange(20000) % 10).mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [{"kernel": 4}, {"filters": []}, {"pool": [2]}, {"dropout": {3: 0.5}}, {"side": 2}, {"pool": [-1]}],
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError):
        Sizes(**({"filters": [4, 6], "kernel": 3, "units": [8], "pool": [0, 1], "side": 8} | wrong))


def test_a_gradient_is_that_of_quantized_weights_and_the_step_that_of_whole_ones(batch):
    stage = silent(Training(SMALL, quantizer=Quantizer(2, 16), lr=0.1, schedule="cosine"))
    twin = ConvNet(SMALL)
    twin.load_state_dict(stage.net.state_dict())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(uniform(parameter, 4, 16))
    before = copy.deepcopy(stage.net.state_dict())
    stage.training_step(batch, 0).backward()
    F.cross_entropy(twin(batch["image"]), batch["label"]).backward()
    for ours, theirs in zip(stage.net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    for name, value in stage.net.named_parameters():
        assert torch.equal(value, before[name])  # the whole weights stand where they stood
    assert not torch.equal(stage.net.norms[0].running_mean, before["norms.0.running_mean"])  # its statistics do not
    assert torch.allclose(stage.net.norms[0].running_mean, twin.norms[0].running_mean)


def test_small_steps_accumulate_until_a_weight_changes_its_level(batch):
    stage = silent(Training(SMALL, quantizer=Quantizer(2, 16), lr=0.003, schedule="cosine"))
    start = {name: value.detach().clone() for name, value in stage.values().items()}
    optimizer = torch.optim.SGD(stage.net.parameters(), 0.003)
    for _ in range(60):
        optimizer.zero_grad()
        stage.training_step(batch, 0).backward()
        optimizer.step()
    quantizer, net = stage.quantizer, stage.net
    for name, value in net.named_parameters():
        assert len(uniform(value.detach(), 4, None).unique()) <= 4
        assert value.detach().flatten()[:16].unique().numel() > 4 or value.numel() < 5 or "norms" in name
    moved = sum(int((quantizer.projected(net)[name].detach() != old).sum()) for name, old in start.items())
    assert moved > 50


def test_a_teacher_teaches_and_stays(batch, trained):
    stage = silent(Training(SMALL, SMALL, trained, schedule="cosine"))
    stage.training_step(batch, 0).backward()
    assert all(p.grad is None for p in stage.teacher.parameters()) and not stage.teacher.training
    stage.train()
    stage.on_train_epoch_start()
    assert not stage.teacher.training
    checkpoint = {"state_dict": stage.state_dict()}
    stage.on_save_checkpoint(checkpoint)
    assert not any(key.startswith("teacher.") for key in checkpoint["state_dict"])
    stage.on_load_checkpoint(checkpoint)
    stage.load_state_dict(checkpoint["state_dict"])
    assert set(dict(stage.exported().named_parameters())) == set(dict(ConvNet(SMALL).named_parameters()))


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0}, {"temperature": 0}, {"weight": 1.5}, {"teacher_weights": "x"}, {"quantizer": Quantizer(2, 9, ("x",))}],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError):
        Training(SMALL, **wrong)


def learning(trained, bits=2, rank=0, **settings):
    stage = silent(PointLearning(SMALL, trained, Quantizer(bits, 16), schedule="cosine", **settings))
    data = LabelledData(train=Patches(), image_size=8, batch_size=4, eval_batch_size=4, seed=1)
    stage._trainer = SimpleNamespace(datamodule=data, world_size=2, global_rank=rank)
    data.trainer = stage._trainer
    stage.configure_model()
    return stage


def test_points_are_learned_and_weights_are_not(batch, trained):
    stage = learning(trained, lr=1e-2)
    assert sum(map(len, stage.learned.points)) == 4 * len(stage.chosen)
    optimizer = torch.optim.SGD(stage.trained(), 0.5)
    before = copy.deepcopy(stage.net.state_dict())
    stage.train()
    stage.on_train_epoch_start()
    stage.training_step(batch, 0).backward()
    assert all(p.grad is None for p in stage.net.parameters())
    assert any(points.grad.abs().sum() > 0 for points in stage.learned.points)
    optimizer.step()
    for name, value in stage.net.named_parameters():
        assert torch.equal(value, before[name])
    assert not torch.equal(stage.net.norms[0].running_mean, before["norms.0.running_mean"])
    assert torch.equal(stage.teacher.norms[0].running_mean, before["norms.0.running_mean"])


def test_more_points_for_larger_gradients_the_same_every_time_and_in_every_process(trained):
    stage = learning(trained, bits=4)
    norms, counts = stage.learned.norms.tolist(), [len(p) for p in stage.learned.points]
    order = sorted(range(len(norms)), key=norms.__getitem__)
    assert all(counts[a] <= counts[b] for a, b in zip(order[1:], order[2:], strict=False))
    assert counts == [len(p) for p in learning(trained, bits=4).learned.points]
    assert norms == learning(trained, bits=4, rank=1).learned.norms.tolist()
    for points in stage.learned.points:
        assert points.min() >= 0 and points.max() <= 1 and torch.equal(points.sort().values, points)


def test_learned_points_come_back_from_their_file(trained, tmp_path):
    stage = learning(trained)
    save_model(stage.exported(), str(tmp_path / "points.safetensors"))
    found = load_learned(SMALL, load_state(tmp_path / "points.safetensors"))
    for name, value in point_values(found, stage.quantizer).items():
        assert torch.equal(value, stage.values()[name])
        assert len(torch.unique(value[:1].flatten()[:16])) <= max(len(p) for p in found.points)
    with pytest.raises(UserError, match="that they were learned with"):
        point_values(found, Quantizer(2, 16, ("out.weight",)))
    with pytest.raises(UserError):
        load_learned(SMALL, load_state(trained))


def test_the_rate_is_halved_as_officially():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule, rates = Halving(optimizer), []
    for epoch in range(60):
        schedule.step(0.5 + 0.01 * min(epoch, 5) + 0.0005 * (epoch % 2))  # gains until epoch 5; then less than counts
        rates.append(optimizer.param_groups[0]["lr"])
        if schedule.finished:
            break
    assert [k for k in range(1, len(rates)) if rates[k] < rates[k - 1]] == [15, 23, 31]
    assert epoch == 36  # the 31st epoch of the plateau
    twin = Halving(torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0))
    twin.load_state_dict(schedule.state_dict())
    assert (twin.stalled, twin.wait, twin.halvings) == (schedule.stalled, schedule.wait, schedule.halvings)


def test_a_plateau_is_counted_in_epochs_and_ends_a_training():
    data = LabelledData(train=Patches(), val=Patches(), image_size=8, batch_size=20, seed=1)
    stage = Training(SMALL, lr=1e-9)
    trainer = L.Trainer(
        max_epochs=300, limit_train_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(stage, data)
    schedule = stage.lr_schedulers()
    assert schedule.stalled == 31 and trainer.current_epoch < 300
    assert (
        trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-9 / 2**schedule.halvings) and schedule.halvings
    )


def test_examples_follow_from_the_seed_and_a_share_has_another_class():
    source = Patches(1000)
    drawn = Drawn(source, 500, 0.2, seed=3)
    names = [drawn[k].name for k in range(500)]
    assert len(set(names)) == 500 and names == [Drawn(source, 500, 0.2, seed=3)[k].name for k in range(500)]
    assert names != [Drawn(source, 500, 0.2, seed=4)[k].name for k in range(500)]
    wrong = [drawn[k].label != int(names[k]) % 10 for k in range(500)]
    assert 0.14 < np.mean(wrong) < 0.26
    for count, share in ((0, 0.0), (1001, 0.0), (5, 1.0), (5, -0.1)):
        with pytest.raises(UserError):
            Drawn(source, count, share, seed=0)
    part = Part(source, 900, 100)
    assert part[0].name == "900" and len(part) == 100
    with pytest.raises(UserError, match="of 1000"):
        Part(source, 950, 100)


def test_crops_are_of_the_padded_picture_or_its_mirror():
    crops = Crops(Patches(), 8, pad=2)
    whole = np.pad(Patches()[3].image, ((2, 2), (2, 2), (0, 0)))
    windows = [whole[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    seen = {i for seed in range(300) for i, w in enumerate([*windows, *(w[:, ::-1] for w in windows)])
            if np.array_equal(crops.draw(3, np.random.default_rng(seed))[0], w)}  # fmt: skip
    assert len(seen) > 45
    batch = collate([crops.draw(k, np.random.default_rng(k)) for k in range(4)])
    assert (
        batch["image"].shape == (4, 3, 8, 8) and batch["image"].max() <= 1 and batch["label"].tolist() == [0, 1, 2, 3]
    )
    plain = Crops(Patches(), 8, pad=0).draw(0, np.random.default_rng(1))[0]
    assert sorted(plain.flatten()) == sorted(Patches()[0].image.flatten())
