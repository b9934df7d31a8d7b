"""Slimmable networks: full width to the bit, slices, gradients, golden vectors, operations."""

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from common.losses.distillation import soft_cross_entropy
from common.training.flops import flop_counter
from projects.controllable_mtl.film import ConditionedEncoder
from projects.controllable_mtl.measures import hypervolume
from projects.controllable_mtl.model import Configuration, Costs, Encoder, Sizes, SuperNet, encoder_widths
from projects.controllable_mtl.slim import Slimmable, calibrate, kept, make_divisible
from projects.controllable_mtl.tasks import Task
from projects.controllable_mtl.train import soft_classes
from tests.golden import golden_file

TASKS = [Task("left", "class", 4, 0.25), Task("right", "segments", 3, 0.1)]


def small(block="basic", stem="small"):
    torch.manual_seed(0)
    return SuperNet(Sizes([8, 16], [2, 1], [1, 2], 8, 8, block, stem, [0.25, 0.5, 1.0], 2), TASKS)


@pytest.fixture(scope="module")
def golden():
    file = golden_file("controllable_mtl")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def test_golden_slices_are_those_of_slimmable_networks(golden):
    found, said = golden
    state = {name.removeprefix("slim/state."): x for name, x in found.items() if name.startswith("slim/state.")}
    widths = torch.tensor([float(w) for w in said["slim"].split("[")[1].split("]")[0].split(",")]).tolist()
    divisor = int(said["make_divisible"].split("divisor=")[1].split(",")[0])
    conv_shape, linear_shape = state["conv.weight"].shape, state["linear.weight"].shape
    net = nn.Sequential()
    net.conv = nn.Conv2d(conv_shape[1], conv_shape[0], conv_shape[2], padding=conv_shape[2] // 2)
    net.bn = nn.BatchNorm2d(conv_shape[0], track_running_stats=False)
    net.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.linear = nn.Linear(linear_shape[1], linear_shape[0])
    own = {name: x for name, x in state.items() if "running" not in name}
    net.load_state_dict(own)
    slim = Slimmable(net, {"conv": ("w", "w"), "bn": ("w", "w"), "linear": ("w", None)}, divisor)
    for number, width in enumerate(widths):
        plain = slim.cut({"w": width})
        for kind in ("mean", "var"):
            getattr(plain.bn, f"running_{kind}").copy_(state[f"bn.running_{kind}.{number}"])
        x = found[f"slim/in.x.{number}"]
        conv = plain.conv(x)
        bn = plain.bn(conv)
        for name, value in (("conv", conv), ("bn", bn), ("linear", plain.linear(plain.pool(bn)))):
            torch.testing.assert_close(value, found[f"slim/out.{name}.{number}"], atol=1e-5, rtol=1e-5)
        sliced = slim.sliced({"w": width})
        torch.testing.assert_close(
            F.conv2d(x, sliced["conv.weight"], sliced["conv.bias"], padding=1), conv, atol=1e-6, rtol=1e-6
        )


def test_golden_channels_hypervolume_and_in_place_distillation(golden):
    found, said = golden
    divisor = int(said["make_divisible"].split("divisor=")[1].split(",")[0])
    channels = [make_divisible(v, divisor) for v in found["make_divisible/in.v"].tolist()]
    assert channels == found["make_divisible/out"].tolist()
    volume = hypervolume(found["hypervolume2d/in.points"].numpy(), found["hypervolume2d/in.ref"].numpy())
    assert volume == pytest.approx(float(found["hypervolume2d/out.hv"]), abs=1e-12)
    student, teacher = found["inplace_distill/in.student_logits"], found["inplace_distill/in.teacher_logits"]
    for loss in (soft_cross_entropy(student, teacher), soft_classes(student, teacher)):
        torch.testing.assert_close(loss, found["inplace_distill/out.loss"], atol=1e-5, rtol=1e-5)


def test_channels_are_never_more_than_a_tenth_below():
    assert kept(30, 0.5, 8) == 16 and kept(30, 1, 8) == 30 and kept(3, 0.5, 8) == 3
    for v in (1, 3, 7.9, 12, 100.5):
        assert make_divisible(v, 4) >= 0.9 * v and (v < 2 or make_divisible(v, 4) % 4 in (0, 1))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_full_width_is_the_plain_network_to_the_bit(block):
    net, images = small(block), torch.randn(4, 3, 12, 12)
    features, outputs = net(images, net.full)
    plain = net.encoder.net(images)
    assert torch.equal(features, plain)
    for name, decoder in net.decoders.items():
        assert torch.equal(outputs[name], decoder.net(plain))


@pytest.mark.parametrize(("block", "stem"), [("basic", "small"), ("bottleneck", "cifar"), ("basic", "imagenet")])
def test_a_subnet_sees_nothing_outside_its_slice_and_leaves_it_alone(block, stem):
    net, images = small(block, stem), torch.randn(4, 3, 24, 24)
    widths = Configuration((0.25, 0.5), (0.5, 0.25))
    features, outputs = net(images, widths)
    assert features.shape[1] == net.sizes.features
    (features.square().sum() + sum(out.square().sum() for out in outputs.values())).backward()
    parts = [(net.encoder, encoder_widths(widths.encoder))]
    parts += [(net.decoders[t.name], {"d": r}) for t, r in zip(TASKS, widths.decoders, strict=True)]
    with torch.no_grad():
        for part, ratios in parts:
            sliced = part.sliced(ratios)
            for name, value in part.net.named_parameters():
                inside = torch.zeros_like(value)
                view = sliced.get(name, value)
                inside[tuple(slice(n) for n in view.shape)] = 1
                assert (value.grad * (1 - inside)).abs().max() == 0
                assert value.grad.abs().sum() > 0
                value.add_((1 - inside) * torch.randn_like(value))
    again, answers = net(images, widths)
    assert torch.equal(again, features) and all(torch.equal(answers[k], outputs[k]) for k in outputs)


def test_a_cut_network_is_the_subnet_with_statistics_of_its_own():
    net, images = small(), torch.randn(16, 3, 12, 12)
    ratios = encoder_widths((0.5, 0.25))
    plain = calibrate(net.encoder.cut(ratios), [(images,)])
    own = net.encoder(ratios, images)  # with the batch's statistics
    torch.testing.assert_close(plain(images), own, atol=0.1, rtol=0.1)  # running variances are the unbiased ones
    assert plain.layer1[0].conv1.out_channels == 4 and plain.neck.out_channels == 8
    halves = calibrate(net.encoder.cut(ratios), [(images[:8],), (images[8:],)])
    torch.testing.assert_close(halves.bn1.running_mean, plain.bn1.running_mean, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        net.encoder.net.conv1.weight.zero_()
    assert plain.conv1.weight.abs().sum() > 0


def test_operations_grow_with_every_width_and_are_those_of_the_network():
    net = small()
    costs = Costs(net, (12, 12))
    full = costs.total(net.full)
    for stage in range(2):
        narrow = [tuple(r if s == stage else 1.0 for s in range(2)) for r in net.sizes.widths]
        assert costs.encoder(narrow[0]) < costs.encoder(narrow[1]) < costs.encoder(narrow[2])
    assert costs.decoder(TASKS[0], 0.25) < costs.decoder(TASKS[0], 0.5) < costs.decoder(TASKS[0], 1.0)
    with flop_counter() as counter:
        net(torch.zeros(1, 3, 12, 12).expand(2, -1, -1, -1), net.full)
    assert counter.get_total_flops() == 2 * full
    # by hand, on 6 x 6 and 3 x 3 positions: stem, 4 convolutions; 2, shortcut; neck
    macs = 36 * 8 * 27 + 4 * 36 * 8 * 72 + 9 * 16 * 72 + 9 * 16 * 144 + 9 * 16 * 8 + 9 * 8 * 16
    assert costs.encoder((1.0, 1.0)) == 2 * macs


def test_all_configurations_are_drawn_independently():
    net = small()
    torch.manual_seed(0)
    drawn = [net.draw() for _ in range(2000)]
    assert len({(c.encoder, c.decoders) for c in drawn}) == 3**4
    assert all(c.encoder == (1.0, 1.0) for c in (net.draw(encoder=False) for _ in range(9)))
    assert all(c.decoders == (1.0, 1.0) for c in (net.draw(decoders=False) for _ in range(9)))


def test_official_resnet_weights_have_the_encoders_names():
    from torchvision.models import resnet18

    with torch.device("meta"):
        own = Encoder(Sizes([64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 1], 256, 128)).state_dict()
        theirs = resnet18().state_dict()
    shared = {name: x.shape for name, x in own.items() if not name.startswith("neck")}
    assert shared == {
        name: x.shape
        for name, x in theirs.items()
        if not name.startswith("fc") and "running" not in name and "num" not in name
    }


def test_a_preference_modulates_the_rival_at_any_fixed_width():
    torch.manual_seed(0)
    sizes = Sizes([8, 16], [1, 1], [1, 2], 8, 8, "basic", "small", [0.5, 1.0], 2)
    net = SuperNet(sizes, TASKS, ConditionedEncoder(sizes, 2))
    images, widths = torch.randn(4, 3, 12, 12), Configuration((0.5, 1.0), (0.5, 0.5))
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert not torch.allclose(net(images, widths, one)[0], net(images, widths, other)[0])
    with torch.no_grad():
        for layer in (*net.encoder.net.scales, *net.encoder.net.shifts):
            layer.weight.zero_()
            layer.bias.zero_()
    plain = SuperNet(sizes, TASKS)
    plain.load_state_dict(net.state_dict(), strict=False)
    torch.testing.assert_close(net(images, widths, one)[0], plain(images, widths)[0])
    assert 0 < Costs(net, (12, 12), [one]).total(widths) / Costs(plain, (12, 12)).total(widths) - 1 < 0.05
