"""Deep linear JEPA's workloads: sizes, what a step of the flow evaluates, and what encodes the target."""

import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.jepa_linear.harness.plan import EVALUATIONS, workload
from projects.jepa_linear.recipe import RECIPE

ARMS = RECIPE.arms("paper")


def planned(arm, depth=None):
    stages = [stage for stage in walk(ARMS[arm].stages) if depth in (None, stage.overrides.get("model.depth"))]
    with torch.device("meta"):
        return workload(stages[0], configuration(stages[0]))


def flop(arm, depth=None):
    made = planned(arm, depth)
    materialise(made, "32-true")
    return measure(made, 32, "32-true").forward


def test_networks_are_square_and_as_large_as_their_features():
    for depth in (1, 5, 8):
        made = planned("jepa", depth)
        assert sum(p.numel() for p in made.model.parameters()) == (depth + 1) * 64**2
        assert made.batch == made.samples == 128
    assert planned("mae_static").batch == 16384


def test_jepa_encodes_twice_and_the_flow_evaluates_many_times():
    product = 2 * 32 * 64 * 64  # of a matrix with 32 pairs
    assert flop("mae", 5) == EVALUATIONS * 6 * product and flop("jepa", 5) == EVALUATIONS * 11 * product
    assert flop("jepa_average") == 11 * product / 4  # of half as many features


def test_equations_and_measures_are_small():
    assert planned("jepa_theory").samples == 5 and planned("jepa_theory").model.values.shape == (3, 200)
