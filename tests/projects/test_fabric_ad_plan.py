"""Fabric anomaly detection's workloads and networks: the paper's sizes, who is trained."""

import pytest
import torch

from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.fabric_ad.harness.plan import workload
from projects.fabric_ad.harness.speed import speed
from projects.fabric_ad.recipe import RECIPE

ARMS = RECIPE.arms("paper")
TEACHER, WIDE = 8_170_304, 24_862_528


def planned(arm, run="fit"):
    stage = next(s for s in reversed(list(walk(ARMS[arm].stages))) if s.run == run)
    with torch.device("meta"):
        made = workload(stage, configuration(stage))
        made.step(1 if run == "test" else 2)
    return made


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize(("arm", "student"), [("residual", 10_800_256), ("dg", 10_134_464), ("forward", TEACHER)])
def test_a_students_training_and_its_evaluation(arm, student):
    made = planned(arm)
    assert count(made.model) == TEACHER + student and count(made.model, trained=True) == student
    assert made.batch == 4 and made.samples == 190
    assert count(planned(arm, "test").model, trained=True) == 0


def test_rd_has_a_wide_teacher_and_a_memory_has_no_student():
    assert count(planned("rd").model) - count(planned("rd").model, trained=True) == WIDE
    assert planned("rd").batch == 16
    assert count(planned("knn", "test").model) == TEACHER
    assert planned("residual_unseen").samples == 7 * 190


def test_networks_that_are_measured():
    with torch.device("meta"):
        found = {network.name: network.build() for network in speed().networks}
        sizes = {name: count(net) for name, (net, _) in found.items()}
        for net, inputs in found.values():
            net(*inputs)
    assert sizes["DBFAD student"] == 10_800_256 and sizes["DBFAD student without links"] == 10_134_464
    assert sizes["DBFAD teacher"] == TEACHER and sizes["DBFAD detector"] == TEACHER + 10_800_256
    assert sizes["RD4AD detector"] > 5 * sizes["DBFAD detector"]
