"""Distillation losses: closed forms, relations between the divergences, saturated logits, annealing."""

import math

import pytest
import torch
from torch.nn import functional as F

from common.losses.distillation import (
    annealed_temperature,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)

DIVERGENCES = [forward_kl, reverse_kl, jensen_shannon, total_variation]
P, Q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])


def test_closed_forms():
    s, t = P.log(), Q.log()
    kl = 0.25 * math.log(0.5) + 0.5 * math.log(2)
    m = 0.375
    js = 0.5 * math.log(0.5 / m) + 0.25 * math.log(0.25 / m)
    assert forward_kl(s, t).item() == pytest.approx(kl, abs=1e-6)
    assert reverse_kl(s, t).item() == pytest.approx(kl, abs=1e-6)  # the two are each other's mirror image
    assert jensen_shannon(s, t).item() == pytest.approx(js, abs=1e-6)
    assert total_variation(s, t).item() == pytest.approx(0.25, abs=1e-6)


def test_kl_is_not_symmetric_and_forward_is_torchs():
    torch.manual_seed(0)
    s, t = 3 * torch.randn(2, 5, 7)
    expected = F.kl_div((s / 3).log_softmax(-1), (t / 3).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(forward_kl(s, t, 3.0), expected)
    mirrored = F.kl_div((t / 3).log_softmax(-1), (s / 3).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(reverse_kl(s, t, 3.0), mirrored)
    assert not torch.isclose(expected, mirrored, rtol=0.01)


def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy():
    torch.manual_seed(0)
    s, t = torch.randn(2, 5, 7)
    s.requires_grad_()
    entropy = torch.distributions.Categorical(logits=t / 4).entropy().mean()
    torch.testing.assert_close(soft_cross_entropy(s, t, 4.0) - entropy, forward_kl(s, t, 4.0))
    (a,) = torch.autograd.grad(soft_cross_entropy(s, t, 4.0), s)
    (b,) = torch.autograd.grad(forward_kl(s, t, 4.0), s)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_zero_for_equal_predictions_positive_otherwise(divergence):
    torch.manual_seed(0)
    t = torch.randn(4, 5)
    s = t.clone().requires_grad_()
    loss = divergence(s, t, 2.0)
    loss.backward()
    assert abs(loss.item()) < 1e-6 and s.grad.abs().max() < 1e-6
    assert divergence(t.roll(1, -1), t, 2.0) > 0.01


@pytest.mark.parametrize("divergence", [soft_cross_entropy, *DIVERGENCES])
def test_saturated_logits_stay_finite(divergence):
    s = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    loss = divergence(s, torch.tensor([[-200.0, 0.0, 200.0]]))
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


def test_upper_bounds_without_overlap():
    s, t = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    assert jensen_shannon(s, t).item() == pytest.approx(math.log(2))
    assert total_variation(s, t).item() == pytest.approx(1)


@pytest.mark.parametrize("divergence", [soft_cross_entropy, *DIVERGENCES])
def test_leading_dimensions_are_averaged(divergence):
    torch.manual_seed(0)
    s, t = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(divergence(s, t), divergence(s.flatten(0, 1), t.flatten(0, 1)))
    torch.testing.assert_close(
        divergence(s, t), torch.stack([divergence(a, b) for a, b in zip(s, t, strict=True)]).mean()
    )


def test_annealing_ends_at_one():
    assert [annealed_temperature(3.0, epoch, 5) for epoch in range(5)] == [3.0, 2.5, 2.0, 1.5, 1.0]
    assert annealed_temperature(3.0, 0, 1) == 1.0
