"""PromptKD's workloads: the sizes of OpenAI's CLIPs, what is trained, amounts; the networks of the speed bench."""

import pytest
import torch

from benchmarks.measuring.latency import flops
from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.promptkd.harness.plan import workload
from projects.promptkd.harness.speed import Learned, distilled, speed
from projects.promptkd.recipe import RECIPE

ARMS = RECIPE.arms("paper")
LARGE, BASE = 427_616_513, 149_620_737  # of ViT-L/14 and ViT-B/16 with their text towers


def planned(arm, name):
    stage = next(stage for stage in walk(ARMS[arm].stages) if stage.name == name)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_a_student_learns_a_million_numbers_from_a_teacher_that_stays():
    found = planned("promptkd", "distill")
    assert count(found.model, trained=True) == 1_013_760 and found.batch == 8 and found.samples == 64_000
    assert count(found.model["teacher"]) == LARGE
    assert count(planned("projector_only", "distill").model, trained=True) == 986_112
    whole = count(planned("full_finetune", "distill").model, trained=True)
    assert whole == 986_112 + 86_192_640
    assert planned("promptkd_dtd", "distill").samples == 2820


def test_prompts_of_both_towers_are_learned_from_few_pictures():
    found = planned("teacher", "teach")
    assert count(found.model, trained=True) == 9 * 4 * 1024 + 4 * 768 + 8 * 4 * 768 and found.samples == 8000
    assert planned("supervised", "teach").batch == 4 and planned("cross_dtd", "teach").samples == 16_000


def test_evaluation_is_of_test_pictures_alone():
    found = planned("promptkd_dtd", "evaluate")
    assert found.samples == 1692 and count(found.model, trained=True) == 0
    materialise(found, "32-true")
    assert measure(found, 1, "32-true").forward == pytest.approx(36e9, rel=0.02)  # a pass of ViT-B/16 with prompts


def test_networks_of_the_speed_bench():
    with torch.device("meta"):
        student = distilled()
    assert count(Learned(student)) == 1_013_760
    assert count(student) == 1_013_760 + 86_192_640 + 1  # the image tower and the scale
    assert [network.against for network in speed().networks] == [
        "",
        *(network.name for network in speed().networks[:2]),
    ]
    ratio = flops(speed().networks[1]) / flops(speed().networks[0])
    assert ratio == pytest.approx(36 / 166, rel=0.05)
