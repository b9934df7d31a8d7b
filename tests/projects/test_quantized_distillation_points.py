"""Quantization: golden vectors, closed forms of buckets, points and their gradients, Huffman's code, sizes."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from common.errors import UserError
from projects.quantized_distillation.huffman import BLOCK, code_lengths, decode, encode, mean_bits
from projects.quantized_distillation.losses import distillation_loss
from projects.quantized_distillation.quantize import (
    Quantizer,
    allocate,
    learned,
    nearest,
    quantile_points,
    scale,
    uniform,
    uniform_codes,
)
from projects.quantized_distillation.size import size_of
from tests.golden import golden_file

GOLDEN = golden_file("quantized_distillation")
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="golden vectors are not in GOLDEN_ROOT")


@pytest.fixture(autouse=True)
def chance():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        said = file.metadata()
        numbers = {"levels": int(said["levels"]), "bucket": int(said["bucket"])}
        numbers |= {"temperature": float(said["temperature"]), "weight": float(said["teacher_weight"])}
        return {name: file.get_tensor(name) for name in file.keys()} | numbers  # noqa: SIM118


def close(ours, theirs, tolerance=1e-5):
    assert torch.as_tensor(ours, dtype=torch.float64).numpy() == pytest.approx(
        theirs.double().numpy(), rel=tolerance, abs=tolerance
    )


@needs_golden
def test_golden_uniform_and_stochastic(golden):
    weights, levels, bucket = golden["uniform/in.w"], golden["levels"], golden["bucket"]
    scaled = scale(weights, bucket)
    close(scaled.alpha, golden["uniform/out.alpha_bucket"])
    close(scaled.beta, golden["uniform/out.beta_bucket"])
    close(uniform(weights, levels, bucket), golden["uniform/out.q_bucket"])
    close(uniform(weights, levels, None), golden["uniform/out.q_nobucket"])
    drawn = uniform(golden["stochastic/in.w"], levels, bucket, golden["stochastic/in.uniform_draws"])
    close(drawn, golden["stochastic/out.q"])


@needs_golden
def test_golden_points_and_their_gradients(golden):
    points = golden["nonuniform/in.points"].clone().requires_grad_()
    scaled = scale(golden["nonuniform/in.w"], golden["bucket"])
    found = learned(scaled, points)
    found.backward(golden["nonuniform/in.grad_out"])
    close(found.detach(), golden["nonuniform/out.q"])
    close(points.grad, golden["nonuniform/out.grad_points"])
    assert torch.equal(scaled.cut(nearest(scaled.values, points.detach())), golden["nonuniform/out.indices"])
    first = golden["init_points/out.points"]
    close(quantile_points(scale(golden["init_points/in.w"], golden["bucket"]), len(first)), first)
    initial = golden["alloc/in.initial_points"].tolist()
    assert allocate(golden["alloc/in.grad_norms"].tolist(), initial[0]) == golden["alloc/out.points"].tolist()


@needs_golden
def test_golden_loss_and_size(golden):
    student = golden["kd/in.student_logits"].clone().requires_grad_()
    given = (golden["kd/in.teacher_logits"], golden["kd/in.labels"], golden["temperature"], golden["weight"])
    loss = distillation_loss(student, *given)
    loss.backward()
    close(loss.detach(), golden["kd/out.loss"])
    close(student.grad, golden["kd/out.grad_student"])
    scaled = scale(golden["huffman/in.w"], golden["bucket"])
    counts = np.bincount(scaled.cut(uniform_codes(scaled, golden["levels"])).flatten())
    close(mean_bits(counts), golden["huffman/out.mean_bits"], 1e-9)
    frequencies = golden["huffman/in.freq"].double().numpy()
    theirs = golden["huffman/out.code_lengths"].numpy()
    assert mean_bits(frequencies) == pytest.approx(float((frequencies * theirs).sum() / frequencies.sum()), rel=1e-9)


@pytest.mark.parametrize("bucket", [None, 16, 7, 1000])
@pytest.mark.parametrize("levels", [2, 4, 16])
def test_uniform_quantization_is_idempotent_on_its_grid_and_near(levels, bucket):
    weights = torch.randn(9, 23)
    found = uniform(weights, levels, bucket)
    assert torch.allclose(uniform(found, levels, bucket), found, atol=1e-6)
    size = min(bucket or 10**9, weights.numel())
    for before, after in zip(weights.flatten().split(size), found.flatten().split(size), strict=True):
        assert len(after.unique()) <= levels
        assert (after - before).abs().max() <= (before.max() - before.min()) / (2 * (levels - 1)) + 1e-6
    assert torch.equal(uniform(weights, levels, None), uniform(weights, levels, weights.numel()))


def test_constants_and_single_values_stay_and_a_filled_bucket_changes_nothing():
    for weights in (torch.full((40,), 3.5), torch.tensor([2.0]), torch.zeros(3, 3)):
        assert torch.equal(uniform(weights, 4, 16), weights)
    weights = torch.randn(20)
    scaled = scale(weights, 16)
    assert scaled.values.shape == (2, 16) and torch.equal(scaled.beta[1, 0], weights[16:].min())
    assert torch.equal(scaled.values[1, 4:], scaled.values[1, 3].expand(12))


def test_halfway_goes_to_the_even_level_and_to_the_larger_point():
    scaled = scale(torch.tensor([0.0, 0.5, 1.5, 2.5, 3.0]), None)
    assert uniform_codes(scaled, 4).tolist() == [[0, 0, 2, 2, 3]]
    assert nearest(torch.tensor([0.25, 0.75]), torch.tensor([0.0, 0.5, 1.0])).tolist() == [1, 2]


def test_stochastic_rounding_has_the_values_as_its_mean():
    weights, shape = torch.randn(50), scale(torch.randn(50), 16).values.shape
    mean = torch.stack([uniform(weights, 4, 16, torch.rand(shape)) for _ in range(4000)]).mean(0)
    steps = scale(weights, 16).alpha.max() / 3
    assert (mean - weights).abs().max() < 4 * 0.5 * steps / 4000**0.5
    assert torch.allclose(uniform(weights, 4, None, torch.ones(1, 50)).max(), weights.max())


def test_equally_spaced_points_are_uniform_quantization_and_gradients_are_autograds():
    weights, points = torch.randn(7, 11).double(), torch.linspace(0, 1, 4, dtype=torch.float64)
    scaled = scale(weights, 16)
    assert torch.allclose(learned(scaled, points), uniform(weights, 4, 16), rtol=0, atol=1e-12)  # in double precision
    chosen = nearest(scaled.values, points)
    upstream = torch.randn(7, 11).double()
    own = points.clone().requires_grad_()
    (learned(scaled, own) * upstream).sum().backward()
    spread = torch.zeros(5 * 16).double()
    spread[:77] = upstream.flatten()
    expected = [(scaled.alpha * spread.view(5, 16))[chosen == j].sum() for j in range(4)]
    assert own.grad.tolist() == pytest.approx([float(e) for e in expected])


@pytest.mark.parametrize("norms", [[1.0] * 7, [5.0, 0, 0], [0.0, 0, 0], [1e-9, 1, 3, 3, 0.2]])
@pytest.mark.parametrize("count", [2, 4, 16])
def test_points_are_shared_out_whole_and_everyone_has_one(norms, count):
    found = allocate(norms, count)
    assert sum(found) == count * len(norms) and min(found) >= 1
    order = np.argsort(norms, kind="stable")
    assert found[order[-1]] == max(found)


def test_a_quantizer_says_what_it_cannot_do_and_keeps_what_is_whole():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert set(Quantizer(2).chosen(net)) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert "0.weight" not in Quantizer(2, whole=("0.weight",)).chosen(net)
    for wrong in ({"bits": 0}, {"bits": 9}, {"bits": 2, "bucket": 0}):
        with pytest.raises(UserError):
            Quantizer(**wrong)
    with pytest.raises(UserError, match="no 7"):
        Quantizer(2, whole=("7",)).chosen(net)


@pytest.mark.parametrize("count", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("skew", [0.05, 0.5, 0.9])
def test_huffman_codes_come_back_and_keep_within_a_bit_of_entropy(count, skew):
    symbols = np.minimum(np.random.default_rng(count).geometric(skew, count) - 1, 30)
    counts = np.bincount(symbols, minlength=32)
    lengths = code_lengths(counts)
    stream, marks = encode(symbols, lengths)
    assert np.array_equal(decode(stream, marks, lengths, count), symbols)
    assert len(stream) == -(-int((counts * lengths).sum()) // 8)
    share = counts[counts > 0] / count
    entropy = -(share * np.log2(share)).sum()
    assert entropy - 1e-9 <= mean_bits(counts) < entropy + 1 or len(share) == 1
    assert (2.0 ** -lengths[counts > 0]).sum() == (1 if len(share) > 1 else 0.5)


@pytest.mark.parametrize("damage", ["lengths", "marks", "stream"])
def test_a_damaged_stream_is_refused(damage):
    symbols = np.random.default_rng(0).integers(0, 9, 5000)
    lengths = code_lengths(np.bincount(symbols))
    stream, marks = encode(symbols, lengths)
    parts = {"stream": stream, "marks": marks, "lengths": lengths}
    parts[damage] = {"lengths": np.r_[lengths[:-1], 1], "marks": marks[:1], "stream": stream[:100]}[damage]
    with pytest.raises(ValueError):
        decode(parts["stream"], parts["marks"], parts["lengths"], 5000)


def test_the_size_is_the_papers_formula():
    net = nn.Linear(64, 64, bias=False)
    torch.nn.init.uniform_(net.weight)
    assert size_of(net, None).bytes == 4 * 4096
    found = size_of(net, Quantizer(4, bucket=256))
    assert found.bytes == pytest.approx(found.bits * 4096 / 8 + 8 * 16)
    assert 32 * 4096 / 8 / found.bytes == pytest.approx(32 * 256 / (256 * found.bits + 64))  # the released reduction
    points = {"weight": torch.linspace(0, 1, 16)}
    assert size_of(net, Quantizer(4), points).bytes == pytest.approx(found.bytes + 4 * 16)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_the_loss_in_closed_form_and_a_student_like_its_teacher(temperature):
    student, teacher, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    p, q = ((x / temperature).softmax(1) for x in (student, teacher))
    kl, ce = (q * (q / p).log()).sum(1).mean(), -student.log_softmax(1)[range(5), labels].mean()
    for divided, by in (("elements", 4), ("batch", 1)):
        found = distillation_loss(student, teacher, labels, temperature, 0.7, divided)
        assert float(found) == pytest.approx(float(0.7 * temperature**2 * kl / by + 0.3 * ce), rel=1e-5)
    assert float(distillation_loss(student, student, labels, temperature, 1.0)) == pytest.approx(0, abs=1e-6)
    own = student.clone().requires_grad_()
    teacher.requires_grad_()
    distillation_loss(own, teacher, labels).backward()
    assert teacher.grad is None
