"""Workloads of MobileSAMv2: the real networks, and how much the decoder is asked."""

import pytest
import torch

from benchmarks.planning.stages import configuration
from common.recipe import walk
from common.training.flops import flop_counter
from projects.mobilesamv2.harness.plan import decode, workload
from projects.mobilesamv2.harness.speed import BOXES, GRID, speed
from projects.mobilesamv2.recipe import RECIPE


def planned(arm, name=None):
    [stage] = [s for s in walk(RECIPE.arms("paper")[arm].stages) if s.name == (name or s.name)][-1:]
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_networks_have_the_released_sizes():
    assert count(planned("boxes").model["sam"]) == pytest.approx(641e6, rel=0.01)
    assert count(planned("boxes_tiny").model["sam"]) == pytest.approx(9.8e6, rel=0.01)
    assert count(planned("boxes_efficientvit").model["sam"]) == pytest.approx(61.3e6, rel=0.01)
    assert "detector" not in planned("grid_32").model and "detector" in planned("points").model


def test_steps_of_the_detector_train_what_the_stages_train():
    masks, boxes = planned("boxes", "detector_masks"), planned("boxes", "detector_boxes")
    trained = [sum(p.numel() for p in own.model.parameters() if p.requires_grad) for own in (masks, boxes)]
    assert trained[0] - trained[1] == count(boxes.model.mask_head) and masks.batch == boxes.batch == 8
    with torch.device("meta"):
        for own in (masks, boxes):
            assert own.step(2).requires_grad


def test_the_decoder_s_work_grows_with_the_prompts():
    sam = planned("grid_32").model["sam"]
    with torch.device("meta"):
        counts = []
        for prompts in (16, 32):
            with flop_counter() as counted:
                decode(sam, torch.zeros(1, 256, 64, 64), prompts, 3)
            counts.append(counted.get_total_flops())
    assert counts[1] == pytest.approx(2 * counts[0], rel=1e-3)


def test_what_speed_measures_is_a_share_of_grid_and_boxes():
    networks = {network.name: network for network in speed().networks}
    with torch.device("meta"), torch.no_grad():
        tokens = {name: networks[name].build()[1][1] for name in (GRID, BOXES)}
    assert len(tokens[GRID]) / len(tokens[BOXES]) == 1024 / 320
    assert {claim for claim in (GRID, BOXES)} <= set(networks)
