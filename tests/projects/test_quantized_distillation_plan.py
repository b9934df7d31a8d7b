"""Quantized distillation's workloads and networks: the paper's sizes, who is trained, whom a student asks."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.quantized_distillation.harness.plan import workload
from projects.quantized_distillation.harness.speed import speed
from projects.quantized_distillation.recipe import RECIPE

ARMS = RECIPE.arms("paper")
MACS = {"teacher": 166.9e6, "labels": 126.6e6, "labels_medium": 41.7e6, "labels_small": 9.4e6}


def planned(arm, run="fit"):
    stage = next(s for s in reversed(list(walk(ARMS[arm].stages))) if s.run == run)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize("arm", MACS)
def test_a_picture_costs_what_was_counted_by_hand(arm):
    made = planned(arm)
    materialise(made, "32-true")
    assert measure(made, 2, "32-true").forward == pytest.approx(2 * 2 * MACS[arm], rel=0.01)


def test_a_distilled_student_asks_a_teacher_that_stays():
    made = planned("qd_2")
    assert count(made.model) == 5_346_142 + 1_000_235 and count(made.model, trained=True) == 1_000_235
    assert made.batch == 25 and made.samples == 45_000
    own = planned("dq_2")
    assert count(own.model) == 2 * 1_000_235  # the teacher is the network itself
    assert count(planned("qd_2", "test").model, trained=True) == 0
    assert planned("noise", "test").samples == 20_000


def test_the_networks_of_the_papers_timing():
    with torch.device("meta"):
        found = {network.name: count(network.build()[0]) for network in speed().networks}
    assert found["ResNet-18"] == 11_689_512 and found["ResNet-34"] == 21_797_672
    assert 3.8 < found["ResNet-18 twice as wide"] / found["ResNet-18"] < 4
    assert found["CIFAR-10 teacher"] == 5_346_142 and found["CIFAR-10 student small"] == 111_935
