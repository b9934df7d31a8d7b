"""Training: which parameters move, from what; the evaluation of a network whose answers are known; resume."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torchvision.models import resnet18

from common.errors import UserError
from projects.controllable_mtl.bench import Bench
from projects.controllable_mtl.data import OverlappedDigits, TaskData
from projects.controllable_mtl.evaluate import Evaluation
from projects.controllable_mtl.model import Configuration, Costs, Sizes
from projects.controllable_mtl.search import Space
from projects.controllable_mtl.tasks import IGNORED, Task, invariance
from projects.controllable_mtl.train import Training, load_encoder

SIZES = Sizes([8, 16], [1, 1], [1, 2], 8, 8, "basic", "small", [0.25, 0.5, 1.0], 2)
TASKS = [Task("left", "class", 10, 0.1), Task("right", "class", 10, 0.1)]


def training(**given):
    torch.manual_seed(0)
    found = Training(SIZES, TASKS, **given)
    found.log = lambda *_, **__: None
    return found


def data(count=64):
    return TaskData(*(OverlappedDigits(s, count) for s in ("train", "val", "test")), batch_size=32, mirror=False)


def batch():
    return next(iter(data().ordered("train", 32)))


def loss_of(model, step=10):
    torch.manual_seed(1)
    model.trainer, model.steps = type("Trainer", (), {"global_step": step})(), 20
    return model.training_step(batch(), 0)


@pytest.fixture(autouse=True)
def step(monkeypatch):
    monkeypatch.setattr(Training, "global_step", property(lambda self: self.trainer.global_step))
    monkeypatch.setattr(Training, "trainer", None)


def test_the_supernet_is_trained_alone_at_first_and_never_without_its_own_loss():
    model = training(alone=0.4, distill="nothing")
    alone, together = loss_of(model, 7), loss_of(model, 8)
    _, outputs = model.net(batch()["image"], model.net.full)
    own = model.task_loss(outputs, batch())
    assert torch.equal(alone, own) and together > 2 * own
    torch.manual_seed(1)
    drawn = model.net.draw()
    losses = [model.task_loss(model.net(batch()["image"], c)[1], batch()) for c in (model.smallest(), drawn)]
    torch.testing.assert_close(together, own + sum(losses))


@pytest.mark.parametrize("distill", ["features", "outputs"])
def test_distillation_adds_its_term_and_its_teacher_gets_no_gradient(distill, monkeypatch):
    model = training(distill=distill, distill_weight=2.0, alone=0.0, space=Space())
    more = loss_of(model) - loss_of(training(distill="nothing", alone=0.0))
    torch.manual_seed(1)
    subnets = (model.smallest(), model.net.draw())
    images = batch()["image"]
    features, outputs = model.net(images, model.net.full)
    terms = []
    for widths in subnets:
        own, answers = model.net(images, widths)
        if distill == "features":
            terms.append(invariance(own, features.detach()))
        else:
            soft = [-(outputs[t.name].softmax(1) * answers[t.name].log_softmax(1)).sum(1).mean() for t in TASKS]
            terms.append(sum(soft))
    torch.testing.assert_close(more, 2 * sum(terms), atol=1e-4, rtol=1e-4)
    if distill == "features":  # it moves no decoder, and with the SuperNet itself it is nothing
        invariance(model.net(images, subnets[0])[0], features.detach()).backward()
        assert all(p.grad is None for p in model.net.decoders.parameters())
        grown = model.net.encoder.net.layer2[0].conv1.weight.grad
        assert grown[:4, :2].abs().sum() > 0 and grown[4:].abs().sum() == grown[:, 2:].abs().sum() == 0
        assert invariance(features.detach(), features.detach()) < 1e-6


def test_what_is_not_slimmed_stays_full():
    assert training(space=Space(encoder=False)).smallest() == Configuration((1.0, 1.0), (0.25, 0.25))
    assert training(space=Space(decoders=False)).smallest() == Configuration((0.25, 0.25), (1.0, 1.0))


def test_a_network_of_fixed_widths_trains_its_slice_alone():
    model = training(widths=[0.5, 0.25, 0.5, 0.5], distill="nothing")
    loss_of(model).backward()
    grown = model.net.encoder.net.layer1[0].conv1.weight.grad
    assert grown[:4, :4].abs().sum() > 0 and grown[4:].abs().sum() == 0


def test_the_rivals_losses_are_weighted_by_preferences():
    model = training(widths=[1.0] * 4, conditioned=True, subnets=1)
    loss = loss_of(model)
    torch.manual_seed(1)
    expected = []
    for _ in range(2):
        p = torch.distributions.Dirichlet(torch.ones(2)).sample()
        _, outputs = model.net(batch()["image"], model.fixed, p[None])
        expected.append(sum(2 * w * t.loss(outputs[t.name], batch()[t.name]) for w, t in zip(p, TASKS, strict=True)))
    torch.testing.assert_close(loss, sum(expected) / 2)
    loss.backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.net.encoder.net.scales)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alone": 1.5}, r"model\.alone"),
        ({"lr": 0.0}, r"model\.lr"),
        ({"subnets": -1}, r"model\.subnets"),
        ({"conditioned": True}, r"model\.widths"),
        ({"widths": [0.5, 0.5]}, r"2 of the encoder's stages and 2 of the decoders"),
        ({"widths": [0.3, 1.0, 1.0, 1.0]}, "each of"),
        ({"encoder_weights": "/nowhere/resnet18.pth"}, "no weight file"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        training(**given)
    with pytest.raises(UserError, match="has no classes"):
        Training(SIZES, [Task("depth", "depth", 1, 1.0)], distill="outputs")
    with pytest.raises(UserError, match="a name of its own"):
        Training(SIZES, [TASKS[0], TASKS[0]])
    for sizes in ({"planes": []}, {"widths": [1.0, 0.5]}, {"widths": [0.5]}, {"hidden": 0}, {"strides": [1]}):
        with pytest.raises(UserError, match=r"model\.net"):
            Sizes(**{**vars(SIZES), **sizes})


def test_official_weights_fill_the_encoder_but_the_neck(tmp_path):
    torch.manual_seed(0)
    official = resnet18()
    torch.save(official.state_dict(), tmp_path / "resnet18.pth")
    model = Training(Sizes([64, 128, 256, 512], [2] * 4, [1, 2, 2, 1], 8, 8), TASKS)
    neck = model.net.encoder.net.neck.weight.clone()
    load_encoder(model.net.encoder.net, str(tmp_path / "resnet18.pth"))
    assert torch.equal(model.net.encoder.net.layer3[1].conv2.weight, official.layer3[1].conv2.weight)
    assert torch.equal(model.net.encoder.net.neck.weight, neck)
    images = torch.randn(2, 3, 64, 64)
    official.train()
    with torch.no_grad():
        want = official.layer2(official.layer1(official.maxpool(official.relu(official.bn1(official.conv1(images))))))
        own = model.net.encoder.net
        got = own.layer2(own.layer1(own.maxpool(own.relu(own.bn1(own.conv1(images))))))
    torch.testing.assert_close(got, want)


def test_figures_are_those_of_the_network_that_is_deployed():
    model = training()
    bench = Bench(model.net, data(), 48, True, torch.device("cpu"))
    widths = Configuration((0.5, 1.0), (0.25, 0.5))
    deployed = bench.deployed(widths)
    left = right = 0
    for one in data().ordered("test"):
        outputs = deployed(one["image"])
        left += (outputs[0].argmax(1) == one["left"]).sum()
        right += (outputs[1].argmax(1) == one["right"]).sum()
    assert bench.figures(widths, "test") == pytest.approx([float(left) / 64, float(right) / 64])
    assert bench.scores(widths, "test")[0] == pytest.approx((float(left) / 64 - 0.1) / 0.9)
    bench.figures(model.net.full, "val")
    assert bench.distance[1.0, 1.0] == pytest.approx(0, abs=1e-5)


def test_a_task_without_labels_is_an_error():
    class Unlabelled(OverlappedDigits):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"right": np.int64(IGNORED)}

    odd = TaskData(OverlappedDigits("train", 32), Unlabelled("val", 8))
    bench = Bench(training().net, odd, 16, False, torch.device("cpu"))
    with pytest.raises(UserError, match=r"task right has no figure on data\.val"):
        bench.figures(bench.net.full, "val")


def test_a_sweep_serves_what_it_can(tmp_path):
    model = training()
    save_model(model.net, str(tmp_path / "weights.safetensors"))
    given = {"weights": str(tmp_path / "weights.safetensors"), "keep": True, "calibration": 32}

    bench, costs = Bench(model.net, data(), 32, True, torch.device("cpu")), Costs(model.net, (12, 12))

    def evaluation(**more):
        found = Evaluation(SIZES, TASKS, **{**given, **more})
        found.bench, found.costs = bench, costs
        return found

    own = evaluation()
    tight = own.setting((1.0, 0.0), 0.5)
    assert (
        len(tight.widths) == 1
        and tight.cost <= 0.5
        and tight.scores == tuple(own.bench.scores(tight.widths[0], "test"))
    )
    tight = own.setting((1.0, 0.0), 0.35)
    anyone = evaluation(pick="any").setting((1.0, 0.0), 0.35)
    assert tight.widths[0] in anyone.widths and len(anyone.widths) > 1
    assert bench.overall(tight.widths[0]) == max(bench.overall(c) for c in anyone.widths)
    assert evaluation(space=Space(encoder=False)).setting((1.0, 0.0), 0.4).scores == (0, 0)
    assert evaluation(widths=[1.0] * 4).setting((1.0, 0.0), 0.5).widths == ()
    slim = own.widest() | own.slimmed()
    scores = [bench.scores(Configuration(e, (r, r)), "test") for e in own.net.encoders() for r in SIZES.widths]
    assert slim["subnets"] == pytest.approx(sum(map(sum, scores)) / len(scores) / 2)
    assert 0 < slim["cost_least"] < 0.3 and slim["distance"] > 0
    for bad in ({"budgets": []}, {"budgets": [1.2]}, {"calibration": 0}, {"preferences": [[1.0, 2.0, 3.0]]}):
        with pytest.raises(UserError):
            evaluation(**bad)
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        evaluation(weights=str(tmp_path / "other.safetensors"))
    assert json.dumps(slim)
