"""MCM's losses and solver: what must hold of them, in closed form."""

import math

import pytest
import torch
from torch import nn

from projects.mcm.consistency import Consistency, boundary_scalings, guidance_embedding, pseudo_huber
from projects.mcm.discriminator import (
    FrameDiscriminator,
    Head,
    LocalBatchNorm,
    PenaltyWeight,
    discriminator_losses,
    generator_loss,
    gradient_penalty,
)
from projects.mcm.motion import (
    SpatialHead,
    correlation,
    difference,
    high_frequencies,
    local_correlation,
    low_frequencies,
    motion_head,
)
from tests.distributed import assert_data_parallel


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def solver(**settings):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return Consistency((1 - betas).cumprod(0), **settings)


def test_boundary_scalings_add_up_and_end_in_the_identity():
    skip, out = boundary_scalings(torch.tensor([0, 1, 20, 999]), 4.0)
    torch.testing.assert_close(skip + out**2, torch.ones(4))
    assert skip[0] == 1 and out[0] == 0 and skip[3] < 1e-7


def test_knots_are_those_of_the_sampler():
    assert solver(knots=50).timesteps[[0, 1, 49]].tolist() == [19, 39, 999]
    start, after = solver(knots=20).endpoints(torch.tensor([0, 19]))
    assert start.tolist() == [49, 999] and after.tolist() == [0, 949]


def test_the_last_knot_is_pure_noise_and_the_others_are_not():
    z, noise, index = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2), torch.tensor([49, 48])
    noisy = solver().add_noise(z, noise, index)
    assert torch.equal(noisy[0], noise[0]) and not torch.allclose(noisy[1], noise[1], atol=1e-2)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_step_with_the_truth_stays_on_the_trajectory(prediction):
    s = solver(prediction=prediction)
    z, noise, index = torch.randn(3, 4, 2, 2, 2), torch.randn(3, 4, 2, 2, 2), torch.tensor([0, 20, 48])
    noisy, (t, after) = s.add_noise(z, noise, index), s.endpoints(index)
    abar = s.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
    outputs = {"epsilon": noise, "sample": z, "v_prediction": abar.sqrt() * noise - (1 - abar).sqrt() * z}
    output = outputs[prediction]
    torch.testing.assert_close(s.x0(output, noisy, t), z, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(s.noise(output, noisy, t), noise, atol=2e-4, rtol=1e-4)
    expected = torch.stack(
        [
            s.alphas_cumprod[k].sqrt() * a + (1 - s.alphas_cumprod[k]).sqrt() * b
            for k, a, b in zip(after, z, noise, strict=True)
        ]
    )
    previous = s.teach(lambda *_: (output, torch.randn_like(output)), noisy, index, torch.zeros(3))  # w = 0: no mixing
    torch.testing.assert_close(previous, expected, atol=2e-4, rtol=1e-4)


def test_guidance_moves_away_from_the_unconditional():
    s, noisy, index = solver(), torch.randn(2, 4, 2, 2, 2), torch.tensor([10, 30])
    c, u = torch.randn(2, 2, 4, 2, 2, 2)
    found = s.teach(lambda *_: (c, u), noisy, index, torch.tensor([2.0, 2.0]))
    straight = s.teach(lambda *_: (c + 2 * (c - u), u), noisy, index, torch.zeros(2))
    torch.testing.assert_close(found, straight, atol=1e-4, rtol=1e-4)  # linear in the prediction


def test_at_the_first_knot_the_target_is_the_teachers_step():
    s, z = solver(), torch.randn(2, 4, 2, 2, 2)
    step = s.step(
        z,
        torch.randn_like(z),
        torch.tensor([0, 0]),
        torch.ones(2),
        student=lambda x, t: torch.randn_like(x),
        teacher=lambda x, t: (torch.randn_like(x), torch.randn_like(x)),
        target=lambda x, t: torch.randn_like(x),
    )
    torch.testing.assert_close(step.target, step.previous)


def test_gradients_reach_the_student_alone():
    student, teacher = nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 1)
    z = torch.randn(2, 4, 3, 2, 2)
    step = solver().step(
        z,
        torch.randn_like(z),
        torch.tensor([5, 30]),
        torch.ones(2),
        student=lambda x, t: student(x),
        teacher=lambda x, t: (teacher(x), teacher(-x)),
        target=lambda x, t: student(x),
    )
    head, slow = SpatialHead(), SpatialHead().requires_grad_(False)
    assert not step.target.requires_grad and not step.previous.requires_grad
    pseudo_huber(head(step.predicted), slow(step.target)).backward()
    assert student.weight.grad.abs().sum() > 0 and head.conv_out.weight.grad.abs().sum() > 0
    assert teacher.weight.grad is None and all(p.grad is None for p in slow.parameters())


def test_pseudo_huber_lies_below_the_absolute_error_and_tends_to_it():
    x, y = torch.randn(2, 5, 5)
    absolute = (x - y).abs().mean()
    assert pseudo_huber(x, x) == 0
    assert pseudo_huber(x, y, 0.1) < pseudo_huber(x, y, 1e-3) < absolute
    torch.testing.assert_close(pseudo_huber(x, y, 1e-6), absolute, atol=1e-5, rtol=1e-5)


def test_guidance_embedding_of_an_odd_size_ends_in_zero():
    found = guidance_embedding(torch.tensor([0.0, 0.01]), 7)
    assert found.shape == (2, 7) and found[:, 6].tolist() == [0, 0]
    assert found[0, :3].tolist() == [0, 0, 0] and found[0, 3:6].tolist() == [1, 1, 1]
    torch.testing.assert_close(found[1, 0], torch.tensor(math.sin(10.0)))


def test_the_learned_head_starts_as_the_identity_with_708_parameters():
    head, z = SpatialHead(), torch.randn(2, 4, 3, 5, 5)
    assert torch.equal(head(z), z) and sum(p.numel() for p in head.parameters()) == 708
    heavier = motion_head("hlearn")
    assert torch.equal(heavier(z), z) and len(heavier.layers) == 4 and heavier.layers[0][0].kernel_size == (3, 3)
    assert heavier.conv_out.kernel_size == (1, 1) and sum(p.numel() for p in heavier.parameters()) == 113_924
    assert SpatialHead(hidden=16, norm_num_groups=8).layers[0][1].num_groups == 8


def test_frequencies_add_up_and_a_constant_video_is_low():
    z = torch.randn(2, 4, 6, 4, 4)
    torch.testing.assert_close(low_frequencies(z) + high_frequencies(z), z, atol=1e-5, rtol=1e-5)
    constant = torch.ones(1, 1, 6, 4, 4)
    torch.testing.assert_close(low_frequencies(constant), constant)


def test_a_still_video_does_not_move():
    still = torch.randn(2, 4, 1, 5, 5).expand(-1, -1, 6, -1, -1)
    assert difference(still).abs().max() == 0


def test_correlation_of_swapped_frames_is_transposed():
    z = torch.randn(2, 4, 2, 3, 3)
    torch.testing.assert_close(correlation(z.flip(2)), correlation(z).transpose(1, 2))


def test_local_correlation_is_a_window_of_the_whole():
    z = torch.randn(1, 4, 2, 3, 4)
    whole, local = correlation(z).view(12, 3, 4), local_correlation(z, radius=1).view(3, 3, 3, 4)
    assert local_correlation(z).shape == (1, 15 * 15, 3, 4)
    for y, x, dy, dx in [(1, 1, 0, 0), (1, 1, -1, 1), (2, 3, -1, -1), (0, 0, 1, 0)]:
        torch.testing.assert_close(local[dy + 1, dx + 1, y, x], whole[y * 4 + x, y + dy, x + dx])
    assert local[0, :, 0].abs().max() == 0  # above the first row lies nothing


def test_wgan_is_hinge_less_one_with_the_same_gradient():
    real, fake = torch.randn(2, 6, 9, requires_grad=True)
    for a, b in zip(discriminator_losses(real, fake, "wgan"), discriminator_losses(real, fake, "hinge"), strict=True):
        torch.testing.assert_close(a, b - 1)
        for logits in (real, fake):
            found = [torch.autograd.grad(x, logits, retain_graph=True, allow_unused=True)[0] for x in (a, b)]
            assert (found[0] is None) == (found[1] is None)
            if found[0] is not None:
                torch.testing.assert_close(*found)
    torch.testing.assert_close(generator_loss(fake, "wgan"), generator_loss(fake, "hinge") - 1)
    torch.testing.assert_close(generator_loss(torch.zeros(3), "bce"), torch.tensor(math.log(2)))


def test_local_batch_norm_normalises_groups_of_neighbours():
    norm, x = LocalBatchNorm(3), torch.randn(16, 3, 5) * 4 + 2
    found = norm(x)
    for group in (found[:8], found[8:]):
        torch.testing.assert_close(group.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(group.var((0, 2), unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
    changed = torch.cat([x[:8], torch.randn(8, 3, 5)])
    torch.testing.assert_close(norm(changed)[:8], found[:8])
    with pytest.raises(ValueError, match="9 frames do not divide into 2"):
        norm(torch.randn(9, 3, 5))


def discriminator_step(judge, tokens):
    return sum(discriminator_losses(judge(tokens), judge(tokens**2), "wgan"))


def test_the_discriminators_groups_do_not_straddle_processes():
    judge = nn.Sequential(nn.Conv1d(4, 6, 3), LocalBatchNorm(6), nn.LeakyReLU(0.2), nn.Conv1d(6, 1, 1))
    assert_data_parallel(discriminator_step, judge, torch.randn(32, 4, 7))


def test_logits_are_a_heads_tokens_one_after_the_other():
    judge = FrameDiscriminator([2, 5], channels=4, condition=3).eval()
    tokens, condition = [torch.randn(8, 5, 4), torch.randn(8, 5, 4)], torch.randn(8, 3)
    found = judge(tokens, condition)
    assert found.shape == (8, 10)
    torch.testing.assert_close(found[:, 5:], judge.heads["5"](tokens[1], condition))


def test_a_head_is_circular_along_its_tokens():
    head, tokens, condition = Head(4, 3).eval(), torch.randn(8, 9, 4), torch.randn(8, 3)
    torch.testing.assert_close(head(tokens.roll(2, 1), condition), head(tokens, condition).roll(2, 1))


def test_gradient_penalty_of_linear_logits():
    features = [torch.randn(6, 5, 4), torch.randn(6, 5, 4)]
    weight = torch.full((4,), 0.5, requires_grad=True)
    judge = lambda tokens, _: torch.cat([x @ weight for x in tokens], 1)  # noqa: E731
    penalty = gradient_penalty(judge, features, torch.zeros(6, 3))
    norm = math.sqrt(2 * 5 * 4 * 0.25)  # of 0.5 at every token and dimension
    torch.testing.assert_close(penalty, torch.tensor((norm - 1) ** 2))
    penalty.backward()
    assert weight.grad.abs().sum() > 0 and features[0].grad is None


def test_the_penaltys_weight_rises_fivefold_and_waits():
    weight, high, low = PenaltyWeight(1e-5), torch.tensor(100.0), torch.tensor(99.0)
    assert weight.update(high, 0).item() == weight.update(high, 500).item() == pytest.approx(1e-5)
    assert weight.update(low, 501).item() == pytest.approx(1e-5)
    assert weight.update(high, 502).item() == pytest.approx(5e-5)
    assert weight.update(high, 1002).item() == pytest.approx(5e-5)
    assert weight.update(high, 1003).item() == pytest.approx(25e-5)
