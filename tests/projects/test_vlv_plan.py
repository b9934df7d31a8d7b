"""VLV's workloads: what is trained at full size, and the amounts of the paper's configs."""

import pytest
import torch

from benchmarks.planning.meter import materialise
from benchmarks.planning.stages import configuration
from common.recipe import Stage, walk
from projects.vlv.harness import plan
from projects.vlv.harness.plan import calls, workload
from projects.vlv.recipe import RECIPE

LAYERS = {"encoder_layers": 2, "decoder_layers": 2}


def stage(arm: str, name: str) -> Stage:
    return next(stage for stage in walk(RECIPE.arms("paper")[arm].stages) if stage.name == name)


def planned(arm: str, name: str):
    with torch.device("meta"):
        return workload(stage(arm, name), configuration(stage(arm, name)))


def trained(found) -> set[str]:
    return {name.split(".")[0] for name, p in found.model.named_parameters() if p.requires_grad}


def test_stage_1_trains_the_language_model_of_florence_through_a_frozen_diffusion_model():
    found = planned("vlv", "reconstruct")
    assert trained(found) == {"encoder"}
    names = [name for name, p in found.model.named_parameters() if p.requires_grad]
    assert all("vision_tower" not in name and "multi_modal_projector" not in name for name in names)
    frozen = {name: sum(p.numel() for p in found.model[name].parameters()) for name in ("unet", "text", "vae")}
    assert frozen["unet"] == pytest.approx(866e6, rel=0.01) and frozen["text"] == pytest.approx(340e6, rel=0.01)
    assert frozen["vae"] == pytest.approx(84e6, rel=0.01)
    assert found.samples == 40_000_000 and found.batch == 32 and "4 days" in found.reported


@pytest.mark.parametrize(
    ("arm", "parts"),
    [
        ("psi_only", {"adapter"}),
        ("frozen", {"adapter", "words"}),
        ("vlv", {"adapter", "words", "encoder"}),
    ],
)
def test_stage_2_trains_what_its_arm_unfreezes(arm, parts):
    found = planned(arm, "describe")
    assert trained(found) == parts
    assert sum(p.numel() for p in found.model["adapter"].parameters()) == 6_295_552
    assert sum(p.numel() for p in found.model["words"].parameters()) == pytest.approx(3.09e9, rel=0.01)


def test_a_step_of_stage_2_reaches_what_it_trains(monkeypatch):
    width, _, *others = plan.QWEN["Qwen/Qwen2.5-3B"]
    monkeypatch.setitem(plan.QWEN, "Qwen/Qwen2.5-3B", (width, 2, *others))  # layers are alike: two tell of all
    monkeypatch.setitem(plan.FLORENCE, "text_config", plan.FLORENCE["text_config"] | LAYERS)
    found = planned("vlv", "describe")
    materialise(found, "32-true")  # what is recomputed wants a device
    with next(found.model.parameters()).fake_mode:
        found.step(1).backward()
    unreached = {name for name, p in found.model.named_parameters() if p.requires_grad and p.grad is None}
    assert not unreached


def test_redrawing_is_counted_by_calls_of_the_u_net():
    found = planned("images_all", "redraw")
    assert planned("queries", "redraw").samples == 350 * 5_000  # of COCO 2017
    assert calls({"steps": 50, "guidance": [1.0, 2.0, 3.0, 4.0]}) == 350
    assert found.samples == 350 * 30_000 and found.unit == "call of the U-Net" and not trained(found)
