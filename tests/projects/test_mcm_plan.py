"""MCM's workloads: the sizes of the releases, what is trained, and a step without values."""

import pytest
import torch

from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.mcm.harness.plan import workload
from projects.mcm.recipe import RECIPE

STAGES = {stage.name: stage for stage in walk(RECIPE.arms("paper")["mcm"].stages)}


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.fixture(scope="module")
def distillation():
    with torch.device("meta"):
        return workload(STAGES["distill"], configuration(STAGES["distill"]))


def test_the_teacher_has_the_released_sizes_and_only_updates_head_and_discriminator_are_trained(distillation):
    parts = distillation.model
    whole = sum(count(parts["teacher"][name]) for name in ("unet", "vae", "text"))
    assert 1.6e9 < whole < 1.9e9  # "1.7b"
    assert count(parts["dino"]) == pytest.approx(22.1e6, rel=0.01)
    assert count(parts["head"], trained=True) == 708
    assert count(parts["teacher"], trained=True) == count(parts["clip"], trained=True) == 0
    assert count(parts["student"], trained=True) < 0.1 * count(parts["student"])
    assert count(parts["judge"], trained=True) == count(parts["judge"]) > 0
    assert distillation.samples == 2_467_378 and distillation.batch == 4
