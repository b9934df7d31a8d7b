"""The student of residual reverse distillation: official outputs, sizes, what a position sees, closed forms."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from projects.fabric_ad.baselines import ForwardStudent, Memory, ReverseDistillation
from projects.fabric_ad.losses import anomaly_map, distance, flat_loss, position_loss, smooth
from projects.fabric_ad.model import (
    BottleneckAttention,
    Link,
    LinkAttention,
    ReverseStudent,
    Sspcab,
    UpBlock,
    embedding,
)
from projects.fabric_ad.teacher import Teacher, imagenet_resnet, small_resnet
from tests.golden import golden_file

GOLDEN = golden_file("fabric_ad")
SMALL = (16, 16, 32, 64)


class Case:
    """One golden case: inputs, outputs, state and hyperparameters by name."""

    def __init__(self, name):
        if not GOLDEN.is_file():
            pytest.skip(f"no golden vectors at {GOLDEN}")
        with safe_open(GOLDEN, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118
            found = {key.removeprefix(f"{name}/"): file.get_tensor(key) for key in keys}
            self.hp = {
                k.removeprefix(f"{name}/hp."): v for k, v in file.metadata().items() if k.startswith(f"{name}/hp.")
            }
        self.state = {key.removeprefix("state."): value for key, value in found.items() if key.startswith("state.")}
        self.found = found

    def __getitem__(self, key):
        return self.found[key]

    def maps(self, letter):
        names = sorted(key for key in self.found if key.startswith(f"in.{letter}"))
        return [self.found[name] for name in names]

    def load(self, module, **renamed):
        """Fill a module; batch norms' counters are not in the file."""
        state = {}
        for key, value in self.state.items():
            first, rest = key.split(".", 1)
            state[f"{renamed.get(f'_{first}', first)}.{rest}"] = value
        missing, unexpected = module.load_state_dict(state, strict=False)
        assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
        return module.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_golden_losses():
    case = Case("distill_loss")
    s, t = case.maps("s"), case.maps("t")
    close(position_loss(s, t).sum(), case["out.loss"])
    close(torch.stack([position_loss([a], [b]).sum() for a, b in zip(s, t, strict=True)]), case["out.per_level"])
    close(flat_loss(s, t).mean(), case["out.rd4ad_flat_cosine_loss"])


def test_golden_anomaly_map():
    losses, case = Case("distill_loss"), Case("anomaly_map")
    size, sigma = int(case.hp["out_size"]), float(case.hp["sigma"])
    count = len(case["out.raw"])
    found = anomaly_map([s[:count] for s in losses.maps("s")], [t[:count] for t in losses.maps("t")], size)
    close(found[:, None], case["out.raw"])
    close(torch.from_numpy(smooth(found, sigma)), case["out.smoothed_batch2"])
    close(torch.from_numpy(smooth(found[:1], sigma, rows=True))[0], case["out.smoothed_batch1_row_bug"])


def test_golden_parts():
    with torch.no_grad():
        case = Case("sspcab")
        settings = [int(case.hp[name]) for name in ("channels", "reduction_ratio", "kernel_dim", "dilation")]
        close(case.load(Sspcab(*settings))(case["in.x"]), case["out.y"])
        case = Case("bottleneck_attention")
        close(case.load(BottleneckAttention(case["in.x"].shape[1]))(case["in.x"]), case["out.y"])
        case = Case("embedding_branch")
        sizes = (case["in.x"].shape[1], *(case.state[f"{k}.conv.weight"].shape[0] for k in (0, 1)))
        close(case.load(embedding(sizes))(case["in.x"]), case["out.y"])
        case = Case("residual_branch")
        link = case.load(Link(case["in.x"].shape[1], case["out.y"].shape[1]), _0="embed", _2="attend")
        close(link(case["in.x"], json.loads(case.hp["pool"])), case["out.y"])
        case = Case("decoder_block_up")
        close(case.load(UpBlock(case["in.x"].shape[1], case["out.y"].shape[1], 2))(case["in.x"]), case["out.y"])


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_the_official_ones():
    with torch.device("meta"):
        teacher = Teacher(imagenet_resnet("resnet34", pretrained=False)).eval()
        student, unlinked = ReverseStudent(teacher.channels), ReverseStudent(teacher.channels, links=False)
        images = torch.zeros(2, 3, 256, 256)
        maps = teacher(images)
        shapes = [(2, 64, 64, 64), (2, 64, 64, 64), (2, 128, 32, 32), (2, 256, 16, 16)]
        assert [m.shape for m in maps] == shapes
        assert [m.shape for m in student(images, maps)] == shapes == [m.shape for m in unlinked(images, maps)]
        assert count(student) == 10_800_256 and count(unlinked) == 10_134_464 and count(teacher) == 8_170_304
        assert not [name for name, _ in unlinked.named_parameters() if name.startswith("links")]
        wide = Teacher(imagenet_resnet("wide_resnet50_2", pretrained=False)).eval()
        rd = ReverseDistillation(wide.channels, wide=True, depths=(3, 3, 4, 6))
        assert [m.shape for m in rd(images, wide(images))] == [m.shape for m in wide(images)[1:]]


@pytest.mark.parametrize(
    "student",
    [ReverseStudent(SMALL), ReverseStudent(SMALL, links=False), ReverseStudent(SMALL, sspcab=False),
     ReverseStudent(SMALL, attention=False), ReverseDistillation(SMALL), ReverseDistillation(SMALL, wide=True),
     ForwardStudent(small_resnet())],
    ids=["residual", "dg", "no_sspcab", "no_attention", "rd", "rd_wide", "forward"],
)  # fmt: skip
def test_every_parameter_of_a_student_is_trained_and_none_of_the_teachers(student):
    torch.manual_seed(0)
    teacher = Teacher(small_resnet()).frozen()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    images = torch.rand(2, 3, 128, 128)
    maps = teacher(images)
    given = student.train()(images, maps)
    wanted = [maps[level] for level in student.levels]
    assert [g.shape for g in given] == [w.shape for w in wanted]
    position_loss(given, wanted).sum().backward()
    begins_at_zero = isinstance(student, ForwardStudent)  # timm's residual branches
    grads = {name: p.grad for name, p in student.named_parameters()}
    assert all(g is not None and (begins_at_zero or g.abs().sum() > 0) for g in grads.values())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_only_the_forward_student_sees_the_picture():
    torch.manual_seed(0)
    teacher = Teacher(small_resnet()).frozen()
    images = torch.rand(1, 3, 64, 64)
    maps = teacher(images)
    for student, sees in ((ReverseStudent(SMALL), False), (ReverseDistillation(SMALL), False),
                          (ForwardStudent(small_resnet()), True)):  # fmt: skip
        student.eval()
        one, other = student(images, maps)[0], student(1 - images, maps)[0]
        assert torch.equal(one, other) != sees


def test_sspcab_does_not_see_the_position_itself():
    torch.manual_seed(0)
    block, x = Sspcab(8, 4), torch.randn(1, 8, 9, 9)
    block.se = nn.Identity()
    before = block(x)
    for y in range(9):
        for z in range(9):
            changed = x.clone()
            changed[..., y, z] += 1
            moved = (block(changed) - before).abs().sum((0, 1)) > 0
            distances = {(abs(a - y), abs(b - z)) for a, b in moved.nonzero().tolist()}
            assert distances <= {(2, 2)}


def test_attentions_add_up_to_one_along_the_width():
    torch.manual_seed(0)
    block, x = LinkAttention(4), torch.rand(2, 4, 3, 7)
    nn.init.zeros_(block.conv3.weight)
    value = torch.relu(block.conv1(x))
    torch.testing.assert_close(block(x), value / 7)


def test_losses_in_closed_form():
    torch.manual_seed(0)
    t = [torch.randn(3, c, s, s) for c, s in ((4, 8), (6, 4))]
    scaled = [5 * one for one in t]
    assert float(position_loss(scaled, t).max()) < 1e-6 and float(anomaly_map(scaled, t, 16).max()) < 1e-6
    torch.testing.assert_close(position_loss([-one for one in t], t), torch.full((3,), 2.0))
    torch.testing.assert_close(flat_loss([-one for one in t], t), torch.full((3,), 4.0))
    torch.testing.assert_close(distance(torch.zeros_like(t[0]), t[0]), torch.full((3, 8, 8), 0.5))
    s = [torch.randn_like(one) for one in t]
    expected = sum((1 - torch.cosine_similarity(a, b)).mean((1, 2)) for a, b in zip(s, t, strict=True)) / 2
    torch.testing.assert_close(position_loss(s, t), expected)
    flat = [torch.ones(1, 2, 8, 8), torch.ones(1, 2, 4, 4)]
    apart = [-one for one in flat]
    torch.testing.assert_close(anomaly_map(apart, flat, 8), torch.full((1, 8, 8), 2 / 64 + 2 / 16))
    torch.testing.assert_close(anomaly_map(apart, flat, 8, "equal"), torch.full((1, 8, 8), 4.0))


def test_a_memory_knows_what_it_has_seen():
    torch.manual_seed(0)
    teacher = Teacher(small_resnet()).frozen()
    seen, other = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 64, 64) * 0.2
    memory = Memory(10_000)
    memory.fill([Memory.features(teacher(seen))])
    assert float(memory(teacher(seen), 64).max()) < 0.05 < float(memory(teacher(other), 64).mean())
    one, same, third = (Memory(5, seed) for seed in (0, 0, 1))
    for part in (one, same, third):
        part.fill([Memory.features(teacher(seen))])
    assert torch.equal(one.kept, same.kept) and not torch.equal(one.kept, third.kept)
