"""Workloads and real networks: sizes, operations by hand, who is trained."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from common.training.flops import flop_counter
from projects.controllable_mtl.harness.plan import workload
from projects.controllable_mtl.harness.speed import WHOLE, speed
from projects.controllable_mtl.recipe import RECIPE

ARMS = RECIPE.arms("paper")


def planned(arm, run="fit"):
    stage = next(s for s in walk(ARMS[arm].stages) if s.run == run)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_a_step_has_the_supernet_and_two_subnets_or_two_preferences():
    flops = {}
    for arm in ("ecmt", "film"):
        made = planned(arm)
        assert count(made.model, trained=True) == count(made.model) > 11_000_000
        materialise(made, "32-true")
        flops[arm] = measure(made, 2, "32-true").forward
    single = flops["film"] / 2
    assert 1.4 * single < flops["ecmt"] < 1.7 * single  # a half of the channels is a quarter of the operations
    assert single == pytest.approx(35.2e9 * 2, rel=0.01)  # of two pictures
    assert planned("ecmt").samples == 700 and planned("ecmt", "test").samples == 100 * (654 + 95)
    assert count(planned("ecmt", "test").model, trained=True) == 0


def test_the_real_networks_get_smaller_with_their_widths():
    found, operations = {}, {}
    for network in speed().networks:
        with torch.device("meta"):
            net, inputs = network.build()
            found[network.name] = count(net)
            with flop_counter() as counter:
                net(*inputs)
        operations[network.name] = counter.get_total_flops()
    # ResNet-18 less its classifier, the neck, and four decoders of two convolutions and a prediction
    decoder = 9 * 256 * 128 + 9 * 128 * 128 + 4 * 128
    outputs = 40 + 1 + 3 + 1
    assert found[WHOLE] == 11_176_512 + 512 * 256 + 512 + 4 * decoder + 129 * outputs
    assert operations["SubNet of a quarter"] < 0.1 * operations[WHOLE]
    assert operations["SubNet of a half"] < operations["Encoder of a half"] < operations[WHOLE]
