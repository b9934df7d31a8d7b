"""SinKD's toy study: closed forms of the transport between bins, and of the gradients it is about."""

import pytest
import torch
from scipy.stats import wasserstein_distance

from projects.sinkd.toy import (
    BETWEEN_BINS,
    GRID,
    bin_transport,
    fit,
    log_gaussian,
    logit_gradient,
    mass_of,
    mean_gradient,
    two_modes,
)

FLOOR = 1e-12


def gaussian(mean: float, std: float) -> torch.Tensor:
    return log_gaussian(torch.tensor(mean), torch.tensor(std), FLOOR)


def test_probabilities_sum_to_one_and_keep_their_floor():
    mass = gaussian(-2.0, 0.15).double().exp()
    torch.testing.assert_close(mass.sum().item(), 1.0, atol=1e-5, rtol=0)
    assert mass.min() > 0.99 * FLOOR
    assert GRID[mass.argmax()] == pytest.approx(-2.0)


def test_transport_between_narrow_modes_costs_their_distance():
    cost = bin_transport(gaussian(1.0, 0.02), gaussian(-2.0, 0.02))
    torch.testing.assert_close(cost.item(), 3.0, atol=1e-3, rtol=0)


def test_transport_nears_the_wasserstein_distance_from_above():
    p, q = gaussian(1.0, 0.5), gaussian(-1.0, 0.3)
    exact = wasserstein_distance(GRID, GRID, p.exp(), q.exp())
    costs = [bin_transport(p, q, epsilon, 2000).item() for epsilon in (1.0, 0.3, 0.1)]
    assert costs[0] > costs[1] > costs[2] > exact - 1e-4
    assert costs[2] == pytest.approx(exact, abs=0.02)


def test_far_from_the_teacher_only_transport_pulls_at_the_mean():
    far, teacher = torch.tensor([1.0, 3.0]), gaussian(-2.0, 0.15)
    found = {name: mean_gradient(name, teacher, far, FLOOR) for name in BETWEEN_BINS}
    torch.testing.assert_close(found["transport"], torch.ones(2), atol=0.01, rtol=0)
    for name in ("kl", "js"):
        assert found[name].max() < 1e-3


def test_kl_sees_as_far_as_its_floor_is_low():
    far, teacher = torch.tensor([-0.5]), gaussian(-2.0, 0.15)
    found = [mean_gradient("kl", teacher, far, floor).item() for floor in (1e-4, 1e-8, 1e-16)]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("divergence", BETWEEN_BINS)
def test_every_divergence_finds_a_mode_that_it_sees(divergence):
    mean, std = fit(divergence, gaussian(-2.0, 0.3), torch.tensor([-1.8]), FLOOR, steps=60, lr=0.05)
    assert mean.item() == pytest.approx(-2.0, abs=0.05) and std.item() == pytest.approx(0.3, abs=0.06)


def test_starts_do_not_see_each_other():
    target = gaussian(-1.0, 0.5)
    together = fit("js", target, torch.tensor([-1.5, 0.0]), FLOOR, steps=10, lr=0.05)
    alone = fit("js", target, torch.tensor([0.0]), FLOOR, steps=10, lr=0.05)
    torch.testing.assert_close(together[0][1:], alone[0])
    torch.testing.assert_close(together[1][1:], alone[1])


def test_gradient_at_the_logits_of_one_sure_and_wrong_student():
    # P = softmax(5, 0, 0), Q = softmax(0, 5, 0): the L1 norm's signs are (1, -1, 0)
    p = torch.tensor([5.0, 0.0, 0.0]).softmax(0)
    assert logit_gradient("transport", 10.0) == pytest.approx((p[0] * (1 - p[0] + p[1]) / 2).item(), rel=1e-3)
    q = torch.tensor([0.0, 5.0, 0.0]).softmax(0)
    assert logit_gradient("kl", 10.0) == pytest.approx(((p - q).abs().max() / 2).item(), rel=1e-4)


def test_sanity_of_the_masses():
    """The teacher's own, which no Gaussian has at once; each mode alone; a flat student; a mean beyond the grid."""
    students = torch.stack(
        [two_modes(FLOOR), gaussian(-1.5, 0.4), gaussian(2.0, 0.25), gaussian(0.0, 1e3), gaussian(9.0, 0.1)]
    )
    valley, rare = mass_of(students)
    assert valley.tolist() == pytest.approx([0.025, 0.030, 0.013, 22 / 81, 0.0], abs=0.002)
    assert rare.tolist() == pytest.approx([0.29, 0.0, 0.965, 11 / 81, 0.0], abs=0.01)


def test_after_900_steps_a_fit_has_ended_and_after_300_it_has_not():
    starts, target = torch.tensor([-3.5, 3.5]), two_modes(FLOOR)
    early, late, later = (fit("kl", target, starts, FLOOR, steps, 0.05)[0] for steps in (300, 900, 1000))
    assert (early - later).abs().max() > 0.5 and (late - later).abs().max() < 1e-3
