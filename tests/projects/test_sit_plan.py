"""SiT's workloads: who is trained, who only answers, and what a picture costs; the networks of the speed bench."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.sit.harness.plan import workload
from projects.sit.harness.speed import STUDENTS, TEACHERS, speed
from projects.sit.recipe import RECIPE

ARMS = RECIPE.arms("paper")


def planned(arm, run="fit"):
    stage = next(s for s in walk(ARMS[arm].stages) if s.run == run)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_students_are_trained_with_what_recovers_their_tokens_and_teachers_only_answer():
    made = planned("frd")
    assert count(made.model, trained=True) == 25_240_774 + 21_782_640
    assert count(made.model) - count(made.model, trained=True) == 25_368_704 - 385_000
    assert made.batch == 128 and made.samples == 1_281_167
    assert count(planned("labels").model) == 25_240_774
    assert count(planned("other").model["other"]) == pytest.approx(83.6e6, rel=0.01)
    assert planned("deit").model["student"].vit.num_prefix_tokens == 1


def test_a_picture_costs_what_the_paper_reports():
    made = planned("frd", "test")
    materialise(made, "32-true")
    assert measure(made, 2, "32-true").forward == pytest.approx(2 * 2 * 1.48e9, rel=0.01)
    assert count(made.model, trained=True) == 0


def test_the_speed_bench_has_every_published_network_and_its_teacher():
    networks = {network.name: network for network in speed().networks}
    assert networks.keys() == TEACHERS.keys() | STUDENTS.keys() | {"DeiT-S", "DeiT-S, slimmed"}
    assert networks["SiT-XS"].against == networks["SiT-S"].against == "LV-ViT-S"
    with torch.device("meta"):
        for name in ("SiT-T", "LV-ViT-T"):
            net, inputs = networks[name].build()
            head = 321_000
            assert count(net) + head == pytest.approx(networks[name].reported["params"], rel=0.005)
            assert inputs[0].shape == (1, 3, 224, 224)
