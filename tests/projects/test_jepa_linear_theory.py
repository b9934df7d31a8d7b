"""Deep linear JEPA and MAE: closed forms against quadrature, integration, known figures and their own limits."""

import numpy as np
import pytest
from scipy.integrate import quad

from projects.jepa_linear.theory import (
    OBJECTIVES,
    critical_time,
    elapsed,
    fixed_point,
    integrated_time,
    learning_time,
    trajectory,
    velocity,
)

KNOWN = [  # depth, then time and leading terms of JEPA, then of MAE, in the paper's time: lambda .8, rho .6, eps .01
    (1, 129.3282, 125.0, 4.75046, 5.75646),
    (2, 1101.0855, 1111.1111, 21.66459, 25.0),
    (4, 5666.7437, 6171.8393, 51.27158, 52.70463),
]
EQUAL = [  # depth, times of rho .9 and of .5 by JEPA, and by MAE: lambda 1, eps .001
    (1, 1005.3348, 1008.4252, 6.305768, 6.011875),
    (2, 22273.3397, 23338.3492, 60.928009, 60.425751),
    (3, 69816.5504, 80559.8524, 148.64561, 148.175254),
    (5, 204252.0611, 326074.5834, 313.810015, 313.66953),
]


@pytest.mark.parametrize(("depth", *"abcd"), KNOWN)
def test_times_and_leading_terms_have_the_known_values(depth, a, b, c, d):
    rho = np.array(0.6)
    found = [
        float(of(objective, 0.8, rho, depth, 0.01)) * depth
        for objective in OBJECTIVES
        for of in (learning_time, critical_time)
    ]
    assert found == pytest.approx([a, b, c, d], rel=1e-4)


@pytest.mark.parametrize(("depth", *"abcd"), EQUAL)
def test_times_at_equal_lambda_have_the_known_values(depth, a, b, c, d):
    found = [learning_time(objective, 1.0, np.array([0.9, 0.5]), depth, 1e-3) * depth for objective in OBJECTIVES]
    assert np.concatenate(found) == pytest.approx([a, b, c, d], rel=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
def test_elapsed_time_is_the_integral_of_the_inverse_velocity(objective, depth):
    lam, rho, low, high = 0.7, 0.85, 0.45, 0.8
    integral = quad(lambda u: 1 / velocity(objective, u, lam, rho, depth), low, high, epsabs=0, epsrel=1e-11)[0]
    found = elapsed(objective, np.array(high), lam, rho, depth) - elapsed(objective, np.array(low), lam, rho, depth)
    assert float(found) == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_integration_agrees_with_the_closed_form(objective, depth):
    lam, rho = np.array([0.5, 1.0, 0.8]), np.array([0.95, 0.6, 1.1])
    exact = learning_time(objective, lam, rho, depth, 1e-3)
    assert integrated_time(objective, lam, rho, depth, 1e-3) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_velocity_is_zero_at_the_fixed_point_and_trajectories_end_there(objective):
    lam, rho, depth = np.array([0.6, 0.9]), np.array([0.8, 1.05]), 3
    ends = fixed_point(objective, rho, depth)
    assert velocity(objective, ends ** (1 / depth), lam, rho, depth) == pytest.approx([0, 0], abs=1e-14)
    late = 3 * learning_time(objective, lam, rho, depth, 0.05, 0.99).max()
    found = trajectory(objective, lam, rho, depth, 0.05, np.array([0.0, late]))
    assert found[0] == pytest.approx([0.05, 0.05]) and found[1] == pytest.approx(ends, rel=1e-4)


def test_amplitudes_on_the_way_have_the_known_values():
    lam, rho = np.array([1, 0.7, 0.5]), np.array([0.5, 0.9, 1.2])
    jepa = trajectory("jepa", lam, rho, 2, 0.15, np.array([0.0, 10, 20, 40]))[1:]
    known = [[0.1911, 0.2822, 0.2567], [0.2245, 0.7156, 0.9253], [0.2474, 0.8100, 1.4400]]
    assert jepa == pytest.approx(np.array(known), abs=5e-4)
    mae = trajectory("mae", lam, rho, 2, 0.15, np.array([0.0, 3.332, 20]))[1:]
    assert mae == pytest.approx(np.array([[0.6250, 0.8446, 0.6799], [0.6300, 0.9322, 1.1292]]), abs=1e-3)


def test_shallow_mae_is_a_logistic_curve():
    lam, rho, eps, t = 0.9, 0.7, 0.02, np.linspace(0, 8, 9)
    found = trajectory("mae", np.array([lam]), np.array([rho]), 1, eps, t)[:, 0]
    square = rho / (1 + (rho / eps**2 - 1) * np.exp(-2 * lam * t))
    assert found == pytest.approx(np.sqrt(square), rel=1e-6)


def test_time_goes_as_one_over_lambda_and_the_smaller_start_takes_longer():
    rho = np.array([0.9])
    for objective in OBJECTIVES:
        one, two = (learning_time(objective, lam, rho, 3, 0.01) for lam in (0.4, 0.8))
        assert one == pytest.approx(2 * two)
        assert learning_time(objective, 0.4, rho, 3, 0.001) > one


def test_a_feature_below_its_start_has_no_time():
    assert np.isnan(learning_time("jepa", 1.0, np.array([0.5]), 8, 1e-2)).all()  # begins at 0.56 a matrix
    assert not np.isnan(learning_time("mae", 1.0, np.array([0.5]), 8, 1e-2)).any()


@pytest.mark.parametrize(("depth", "pace"), [(2, 1.0), (3, 1.0)])
def test_what_the_leading_terms_leave_out(depth, pace):
    """It grows with log 1/eps for JEPA, at the pace that the exact time has, and stays where it is for MAE."""
    lam, rho, steps = 0.7, np.array(0.8), (1e-4, 1e-6)

    def slope(objective):
        rest = [
            learning_time(objective, lam, rho, depth, e) - critical_time(objective, lam, rho, depth, e) for e in steps
        ]
        return (rest[1] - rest[0]) / np.log(steps[0] / steps[1]) * depth * lam * rho ** (2 * depth - 1)

    assert float(slope("jepa")) == pytest.approx(pace, abs=0.05) and float(slope("mae")) == pytest.approx(0, abs=0.01)


def test_rho_matters_more_to_jepa_the_deeper_it_is_and_less_to_mae():
    rho, depths = np.array([0.9, 0.6]), (2, 3, 5, 8)
    jepa, mae = (
        [t[1] / t[0] - 1 for depth in depths for t in [learning_time(objective, 1.0, rho, depth, 1e-3)]]
        for objective in OBJECTIVES
    )
    assert np.all(np.diff(jepa) > 0) and min(jepa) > 0 and max(np.abs(mae)) < 0.02
    # to first order in eps^(1/L), the paper's leading terms
    small = learning_time("jepa", 1.0, rho, 3, 1e-9)
    assert small[1] / small[0] - 1 == pytest.approx(5 / 4 * (1 / 0.6 - 1 / 0.9) * 1e-3, rel=0.01)
