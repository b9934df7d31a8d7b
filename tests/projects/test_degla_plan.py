"""DeGLA's workloads: OpenAI's CLIP ViT-B/32, and who has a teacher."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.degla.harness.plan import workload
from projects.degla.recipe import RECIPE

CLIP = 151_277_313
"""Parameters of CLIP ViT-B/32."""


def planned(arm, run="fit"):
    stage = next(s for s in reversed(list(walk(RECIPE.arms("paper")[arm].stages))) if s.run == run)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize(("arm", "nets"), [("base", 1), ("ce_clip", 1), ("degla", 2), ("base_distilled", 2)])
def test_the_teacher_is_a_second_clip_that_is_not_trained(arm, nets):
    found = planned(arm)
    assert count(found.model) == nets * CLIP and count(found.model, trained=True) == CLIP
    assert found.batch == 32 and found.samples == 414_113


def test_a_step_costs_a_picture_and_five_texts():
    made = planned("base")
    materialise(made, "32-true")
    forward = measure(made, 2, "32-true").forward / 2
    image, text = 2 * 4.4e9, 2 * 37.8e6 * 32  # multiply-adds of ViT-B/32; of the 12 text layers, a token
    assert forward == pytest.approx(image + 5 * text, rel=0.1)
    assert count(planned("degla", "test").model, trained=True) == 0
