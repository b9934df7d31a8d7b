"""LoRA distillation's workloads: the sizes of Stable Diffusion 2.1, what is trained, amounts."""

import pytest
import torch

from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.lora_distill.harness.plan import workload
from projects.lora_distill.harness.speed import GuidedStep, speed
from projects.lora_distill.recipe import RECIPE


def planned(arm: str, name: str):
    stage = next(stage for stage in walk(RECIPE.arms("paper")[arm].stages) if stage.name == name)
    config = configuration(stage)
    with torch.device("meta"):
        return workload(stage, config)


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize(("arm", "trained"), [("lora_4", 829_952), ("full", 865_910_724)])
def test_what_is_trained_at_full_size(arm, trained):
    found = planned(arm, "distill")
    assert count(found.model, trained=True) == trained and found.samples == 50_000 and found.batch == 1
    assert count(found.model["frozen"]["text"]) == pytest.approx(340e6, rel=0.01)
    assert count(found.model["frozen"]["vae"]) == pytest.approx(84e6, rel=0.01)
    teacher = found.model["pair"].frozen
    assert (teacher is None) == (arm == "lora_4")


def test_drawing_takes_one_evaluation_a_step_or_two():
    for arm, name, wanted in (("guided", "evaluate", 100), ("lora_4", "evaluate", 50), ("lora_4", "pictures", 100)):
        found = planned(arm, name)
        assert found.samples == 6000 * wanted and count(found.model, trained=True) == 0


def test_a_guided_step_is_what_two_evaluations_say():
    torch.manual_seed(0)

    def unet(noisy, t, context):
        return type("Out", (), {"sample": noisy * context.mean((1, 2)).view(-1, 1, 1, 1)})

    z, t, context = torch.randn(1, 4, 8, 8), torch.zeros(1, dtype=torch.long), torch.randn(2, 3, 5)
    c, u = (unet(z, t, part).sample for part in context.split(1))
    step = GuidedStep(torch.nn.Identity())
    step.unet.forward = unet
    torch.testing.assert_close(step(z, t, context), u + 7.5 * (c - u))
    assert [network.against for network in speed().networks] == ["", speed().networks[0].name]
