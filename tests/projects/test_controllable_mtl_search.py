"""From preferences to widths; hypervolumes; and what a sweep measures, in sanity tables."""

from itertools import product

import numpy as np
import pytest

from common.errors import UserError
from projects.controllable_mtl.evaluate import Setting, swept
from projects.controllable_mtl.measures import follows, hypervolume
from projects.controllable_mtl.model import Configuration, Costs, Sizes, SuperNet
from projects.controllable_mtl.search import Space, best, checked, configure, decoder_widths, decoders_for, sweep
from projects.controllable_mtl.tasks import Task

WIDTHS = [0.25, 0.5, 1.0]


@pytest.fixture(scope="module")
def known():
    tasks = [Task("left", "class", 4, 0.25), Task("right", "class", 4, 0.25)]
    net = SuperNet(Sizes([8, 8, 8], [1, 1, 1], [1, 2, 1], 8, 12, "basic", "small", WIDTHS, 1), tasks)
    return net, Costs(net, (12, 12))


def test_preferences_are_sized_by_the_rule():
    assert decoder_widths((1.0, 0.0), WIDTHS) == (1.0, 0.25)
    assert decoder_widths((0.75, 0.25), WIDTHS) == (1.0, 0.5)
    assert decoder_widths((0.2, 0.2, 0.2), WIDTHS) == (1.0, 1.0, 1.0)
    for p in np.random.default_rng(0).dirichlet((1, 1, 1), 50):
        ratios = decoder_widths(p, WIDTHS)
        assert ratios[int(p.argmax())] == 1 and (np.diff(np.array(ratios)[p.argsort()]) >= 0).all()
    assert sweep(2) == [(1, 0), (0, 1), (0.75, 0.25), (0.25, 0.75), (0.5, 0.5)]
    assert len(sweep(4)) == 9 and all(sum(p) == pytest.approx(1) for p in sweep(4))


@pytest.mark.parametrize("budget", [0.2, 0.35, 0.5, 0.8, 1.0])
def test_what_is_found_fits_the_budget_and_favours_the_preferred(known, budget):
    net, costs = known
    whole = costs.total(net.full)
    for p in sweep(2):
        among = configure(net, costs, p, budget * whole, Space())
        assert among and all(costs.total(c) <= budget * whole for c in among)
        for c in among:
            assert (c.decoders[0] >= c.decoders[1]) if p[0] >= p[1] else (c.decoders[0] <= c.decoders[1])
            assert p[0] != p[1] or c.decoders[0] == c.decoders[1]
        wider = configure(net, costs, p, whole, Space())[0].decoders
        assert all(a <= b for a, b in zip(among[0].decoders, wider, strict=True))
        filled = max(costs.total(c) for c in among)
        fits = [e for e in net.encoders() if costs.total(Configuration(e, among[0].decoders)) <= budget * whole]
        assert filled == max(costs.total(Configuration(e, among[0].decoders)) for e in fits)


def test_what_cannot_be_slimmed_stays_and_may_not_fit(known):
    net, costs = known
    whole = costs.total(net.full)
    assert configure(net, costs, (1.0, 0.0), 0.5 * whole, Space(encoder=False)) == []
    assert configure(net, costs, (1.0, 0.0), 1e-6 * whole, Space()) == []
    [one] = {c.decoders for c in configure(net, costs, (1.0, 0.0), 0.9 * whole, Space(decoders=False))}
    assert one == (1.0, 1.0)
    equal = decoders_for(net, costs, (1.0, 0.0), whole, Space(), "uniform")
    assert equal == [(w, w) for w in WIDTHS]


def test_an_evolution_finds_what_looking_at_all_finds():
    among = [Configuration(e, (1.0, 1.0)) for e in product((0.25, 0.5, 0.75, 1.0), repeat=4)]
    looked = []

    def score(c):
        looked.append(c)
        return -sum((a - b) ** 2 for a, b in zip(c.encoder, (0.5, 1.0, 0.25, 0.75), strict=True))

    found = best(among, score, 100, np.random.default_rng(0))
    assert len(looked) == len(set(looked)) == 100 and score(found) > -0.07
    looked.clear()
    assert score(best(among[:40], score, 40, np.random.default_rng(0))) == max(map(score, among[:40]))


def test_hypervolume_is_that_of_boxes():
    assert hypervolume(np.array([[0.6, 0.5]]), np.array([0.1, 0.2])) == pytest.approx(0.5 * 0.3)
    assert hypervolume(np.array([[0.6, 0.5], [0.9, 0.1]]), np.zeros(2)) == pytest.approx(0.3 + 0.03)
    assert hypervolume(np.array([[0.05, 0.9]]), np.array([0.1, 0.2])) == hypervolume(np.zeros((0, 2)), np.zeros(2)) == 0
    rng = np.random.default_rng(0)
    for axes in (2, 3, 4):
        points = rng.random((6, axes))
        whole = hypervolume(points, np.zeros(axes))
        drawn = rng.random((40_000, axes))
        assert whole == pytest.approx((drawn[:, None] <= points).all(2).any(1).mean(), abs=0.01)
        assert hypervolume(np.concatenate([points, 0.9 * points, points]), np.zeros(axes)) == pytest.approx(whole)
        assert hypervolume(np.concatenate([points, np.eye(axes)[:1] * 1.1 + 0.01]), np.zeros(axes)) > whole


FULL = (Configuration((1.0,), (1.0, 1.0)),)


def settings(scores, widths=FULL):
    return [Setting(p, 0.5, widths, 0.4, tuple(s)) for p, s in zip(sweep(2), scores, strict=True)]


SANITY = {
    "perfect": ([(1, 1)] * 5, {"hv": 1, "follows": 0, "preferred": 1, "control": 0}),
    "constant": ([(0, 0)] * 5, {"hv": 0, "follows": 0, "preferred": 0, "control": 0}),
    "obeys": (sweep(2), {"hv": 0.375, "follows": 1, "preferred": 1, "control": 1}),
    "defies": (
        [p[::-1] for p in sweep(2)],
        {"hv": 0.375, "follows": -1, "preferred": 0, "control": -1},
    ),
}


@pytest.mark.parametrize("case", SANITY)
def test_measures_of_a_sweep_in_known_cases(case):
    scores, expected = SANITY[case]
    found = swept(settings(scores))
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["served"] == 1 and found["over"] == pytest.approx(0.8) and found["hv_50"] == found["hv"]


def test_noise_does_not_follow_and_who_serves_nothing_scores_nothing():
    rng = np.random.default_rng(0)
    assert abs(np.mean([follows(sweep(2), rng.random((5, 2))) for _ in range(300)])) < 0.1
    found = swept(settings([(0, 0)] * 5, ()))
    assert found["served"] == found["hv"] == 0
    assert found["control"] == found["follows"] == 0


def test_control_is_that_of_the_budgets_that_are_served():
    obeys = settings(sweep(2))
    none = [Setting(s.preference, 0.3, (), 0.0, (0.0, 0.0)) for s in obeys]
    found = swept(obeys + none)
    assert (found["control"], found["follows"]) == pytest.approx((1, 1))
    assert found["served"] == found["preferred"] == 0.5


@pytest.mark.parametrize("preference", [(1.0,), (1.0, -0.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_a_preference_that_is_none_is_refused(preference):
    with pytest.raises(UserError, match="one for each task"):
        checked(preference, 2)
    assert checked((2.0, 6.0), 2) == (0.25, 0.75)
