"""Workloads of Faster Diffusion: the real network, and what propagation saves."""

import pytest
import torch

from benchmarks.measuring.latency import flops
from benchmarks.planning.stages import configuration
from projects.faster_diffusion.cost import build, macs
from projects.faster_diffusion.harness.plan import BETWEEN, calls, workload
from projects.faster_diffusion.harness.speed import speed
from projects.faster_diffusion.recipe import EQUAL_COST, RECIPE


def planned(arm):
    [stage] = RECIPE.arms("paper")[arm].stages
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def test_a_picture_costs_less_with_propagation_and_as_much_as_its_control():
    full, faster, control = (planned(arm).samples for arm in ("full", "faster", "ddim_equal_cost"))
    assert full == 5000 * 50
    assert faster / full == pytest.approx(0.733, abs=0.002)
    assert control == 5000 * EQUAL_COST and abs(control - faster) < 5000
    assert planned("ddim_keys").samples == 5000 * 9
    assert planned("changes").samples == 100 * 50


def test_the_share_of_a_step_between_is_what_is_counted():
    full, between = macs(build("sd15"))
    assert between / full == pytest.approx(BETWEEN, abs=0.001)
    assert calls({"steps": 20, "reuse": {"keys": "paper"}}) == pytest.approx(7 + 13 * BETWEEN)


def test_networks_have_the_released_sizes_in_half_precision():
    found = planned("full")
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in found.model.named_children()}
    assert count["unet"] == 859_520_964
    assert count["text"] == pytest.approx(123e6, rel=0.01)
    assert next(found.model.parameters()).dtype == torch.float16
    with torch.device("meta"):
        assert found.step(1).shape == (2, 4, 64, 64)


def test_the_networks_of_make_speed_can_be_counted_without_running():
    """On the meta device; a group's four steps without an encoder do less than those in full."""
    full, one_key = (flops(network) for network in speed().networks)
    assert 1.3 < full / one_key < 1.4
