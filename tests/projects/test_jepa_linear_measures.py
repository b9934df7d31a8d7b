"""What deep linear JEPA is measured by: perfect, reversed and floor answers, and what no measure must see."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from projects.jepa_linear.data import Drawn, Group, Pairs, Static, Temporal, exact_pairs
from projects.jepa_linear.model import DeepLinear, amplitudes, progress, unbalanced
from projects.jepa_linear.order import agreement, conflicts, first_reached, inversions, lead, noise_made, purity

LAM, RHO = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.6, 0.7, 0.8, 0.5])
STATIC = Static(Group(2, 0.75, 0.05), Group(3, 0.9, 0.3857))
TEMPORAL = Temporal(Group(2, 0.7895, 0.0105, 0.95), Group(3, 1.0, 0.2857, 0.9))


def test_sanity_of_inversions():
    """By rho: 1; by lambda: 0; all at once, or none ever: a half; scale of the times: no matter."""
    large, small = conflicts(LAM, RHO)
    assert {*zip(large.tolist(), small.tolist(), strict=True)} == {(1, 0), (2, 0), (2, 1)}
    assert inversions(1 / RHO, LAM, RHO) == inversions(100 / RHO, LAM, RHO) == 1
    assert inversions(1 / LAM, LAM, RHO) == 0
    assert inversions(np.ones(4), LAM, RHO) == inversions(np.full(4, np.nan), LAM, RHO) == 0.5
    assert inversions(np.array([np.nan, 3, 2, 1]), LAM, RHO) == 1  # what is never learned comes last
    assert np.isnan(inversions(LAM, LAM, LAM))  # nothing is at odds


def test_sanity_of_agreement():
    times = np.array([1.0, 2, 3, np.nan])
    assert agreement(times, 10 * times) == 1 and agreement(times, -np.nan_to_num(times, nan=9)) == 0
    assert agreement(times, np.array([1.0, 3, 2, np.nan])) == pytest.approx(5 / 6)


def test_sanity_of_first_reached():
    times = np.array([0.0, 1, 2, 4])
    values = np.stack([times / 4, [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], 1)
    found = first_reached(times, values, np.full(4, 0.5))
    assert found[0] == pytest.approx(2) and np.isnan(found[1]) and found[2] == 0 and 0 < found[3] < 1


def test_sanity_of_lead_and_of_noise():
    noisy = np.array([0, 0, 1, 1])
    assert lead(np.array([1.0, 1, 2, 2]), noisy) == pytest.approx(np.log(2))
    assert lead(np.array([20.0, 20, 10, 10]), noisy) == pytest.approx(-np.log(2))
    assert lead(np.array([3.0, 3, 3, 3]), noisy) == 0
    rise = np.linspace(0, 1, 11)
    same, late = np.stack([rise] * 4, 1), np.stack([rise, rise, rise**9, rise**9], 1)
    assert noise_made(same, noisy) == 0.5 and noise_made(late, noisy) == pytest.approx(0.5**9)
    assert noise_made(late[:, ::-1], noisy) > 0.9


def test_sanity_of_purity():
    """Inputs as they are: the floor; clean features alone: the ceiling; the representation's size: no matter."""
    features = STATIC.features()
    share = features.latent / features.variance
    floor = purity(np.ones(5), features.variance, features.latent)
    assert floor == pytest.approx(features.latent.sum() / features.variance.sum())
    assert purity(7 * np.ones(5), features.variance, features.latent) == pytest.approx(floor)
    ceiling = purity(1.0 - features.noisy, features.variance, features.latent)
    assert ceiling == pytest.approx(share.max()) and purity(features.noisy, features.variance, features.latent) < floor


def test_floor_and_ceiling_of_purity_are_those_of_the_page():
    found = []
    for source in (
        Static(Group(4, 0.75, 0.05), Group(4, 0.9, 0.3857)),
        Temporal(Group(4, 0.7895, 0.0105, 0.95), Group(4, 1.0, 0.2857, 0.9)),
    ):
        features = source.features()
        ones = np.ones(8)
        found.append([purity(w, features.variance, features.latent) for w in (ones, 1 - features.noisy)])
    assert np.array(found) == pytest.approx(np.array([[0.791, 0.9375], [0.858, 0.987]]), abs=1e-3)


def test_sanity_of_progress():
    """The target itself: 1; nothing: 0; half: a half; noise beside it: no matter."""
    x, y = (torch.from_numpy(one) for one in exact_pairs(Drawn(4, (0.5, 1), (0.6, 0.9)).features()))
    fit = y @ torch.linalg.lstsq(y, y).solution
    for predicted, wanted in ((fit, 1.0), (0 * y, 0.0), (0.5 * y, 0.5), (-y, -1.0)):
        torch.testing.assert_close(progress(predicted, y, x), torch.full((4,), wanted, dtype=torch.float64))
    noise = torch.zeros_like(y)
    noise[4:] = 3.0  # where no input is
    torch.testing.assert_close(progress(y + noise, y, x), torch.ones(4, dtype=torch.float64))


def test_sanity_of_amplitudes_and_balance():
    torch.manual_seed(0)
    pairs = Pairs(Drawn(4, (0.5, 1), (0.6, 0.9)), seed=3)
    net = DeepLinear(4, 3, 0.05, "mae")
    lengths, mixed = amplitudes(net, pairs.parts["test"][0], pairs.basis)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.05))
    assert mixed < 1e-12 and unbalanced(net) < 1e-12
    with torch.no_grad():
        net.layers[0].copy_(torch.ones(4, 4) * 0.3)  # every feature has the same answer, or its opposite
        net.layers[1].mul_(2)
    _, mixed = amplitudes(net, pairs.parts["test"][0], pairs.basis)
    assert mixed.item() == pytest.approx(1) and unbalanced(net) > 0.1
    relu = DeepLinear(4, 2, 0.05, "mae", relu=True)
    x = torch.randn(20_000, 4, dtype=torch.float64)
    found, _ = amplitudes(relu, x, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full_like(found, 0.025), rtol=0.1, atol=0)  # half of the inputs pass


@pytest.mark.parametrize("source", [STATIC, TEMPORAL])
def test_samples_have_the_features_covariances(source):
    features = source.features()
    x, y = source.sample(50_000, np.random.default_rng(0))
    assert x.T @ x / len(x) == pytest.approx(np.diag(features.variance), abs=0.06)
    assert y.T @ x / len(x) == pytest.approx(np.diag(features.lam), abs=0.06)


@pytest.mark.parametrize("source", [STATIC, Drawn(5, (0.5, 1), (0.6, 1.2))])
def test_exact_pairs_have_the_covariances_exactly_and_targets_as_large_as_inputs(source):
    features = source.features()
    x, y = exact_pairs(features)
    assert x.T @ x / len(x) == pytest.approx(np.diag(features.variance), abs=1e-12)
    assert y.T @ x / len(x) == pytest.approx(np.diag(features.lam), abs=1e-12)
    wanted = np.maximum(features.variance, features.rho * features.lam)
    assert y.T @ y / len(y) == pytest.approx(np.diag(wanted), abs=1e-12)


def test_generators_have_the_features_that_they_should():
    static, temporal = STATIC.features(), TEMPORAL.features()
    assert static.lam == pytest.approx([0.75] * 2 + [0.9] * 3)
    assert static.rho == pytest.approx([0.9375] * 2 + [0.7] * 3, rel=1e-3)
    assert temporal.lam == pytest.approx(static.lam, rel=1e-3) and temporal.rho == pytest.approx(static.rho, rel=1e-3)


def test_parts_of_samples_have_nothing_in_common_and_the_seed_turns_the_basis():
    one, two = (Pairs(STATIC, 50, seed=seed) for seed in (0, 1))
    rows = {tuple(row) for part in one.parts.values() for row in part[0].tolist()}
    assert len(rows) == 150
    assert not torch.allclose(one.basis, two.basis)
    torch.testing.assert_close(one.basis.T @ one.basis, torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"count": 0}, "count 0 of a group of features; it has to be at least 1"),
        ({"latent": 0.0}, "latent 0 of a group"),
        ({"noise": -1.0}, "noise -1 of a group"),
        ({"persistence": 1.5}, "persistence 1.5 of a group"),
    ],
)
def test_groups_that_mean_nothing_are_refused(changed, said):
    with pytest.raises(UserError, match=said):
        Group(**{"count": 2, "latent": 1.0, "noise": 0.1} | changed)


def test_time_belongs_to_a_process():
    still, moving = Group(2, 1.0, 0.1), Group(2, 1.0, 0.1, 0.9)
    for source, groups, said in (
        (Static, (still, moving), "Static has no time"),
        (Temporal, (moving, still), "give both groups of Temporal one below 1"),
    ):
        with pytest.raises(UserError, match=said):
            source(*groups)
    with pytest.raises(UserError, match="data.samples 0"):
        Pairs(STATIC, 0)
    with pytest.raises(UserError, match="count 0"):
        Drawn(0, (0.5, 1), (0.5, 1))
