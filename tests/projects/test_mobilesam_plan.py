"""MobileSAM's workloads: the stages' own parameters, steps that real tensors can take, the paper's amounts."""

import pytest
import torch
from torch import nn

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViT, TinyViTConfig
from common.recipe import walk
from projects.mobilesam.distill import Distillation
from projects.mobilesam.harness.plan import workload
from projects.mobilesam.recipe import RECIPE

STAGES = {stage.name: stage for arm in RECIPE.arms("paper").values() for stage in walk(arm.stages)}
FITS = sorted(name for name, stage in STAGES.items() if stage.run == "fit")
TEACHER = {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": [1], "window_size": 2,
           "prompt_dim": 32, "decoder_mlp_dim": 32, "decoder_heads": 4, "iou_head_hidden": 16}  # fmt: skip
STUDENT = {"embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2],
           "window_sizes": [4, 4, 4, 4], "out_chans": 32}  # fmt: skip


def small(name):
    """A stage's config with networks that a test can afford."""
    config = configuration(STAGES[name])
    config["model"]["teacher"] = TEACHER
    if "student" in config["model"]:
        config["model"]["student"] = STUDENT
    if "vit" in config["model"]:
        config["model"]["vit"] = TEACHER
    config["data"]["image_size"] = 64
    return config


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files that the real stage starts from."""
    folder = tmp_path_factory.mktemp("weights")
    sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in TEACHER.items()}
    teacher = SamConfig(image_size=64, **sizes)
    student = TinyViTConfig(image_size=64, **{k: tuple(v) if isinstance(v, list) else v for k, v in STUDENT.items()})
    torch.save(build_sam(teacher).state_dict(), folder / "teacher.pth")
    torch.save(build_sam(teacher, TinyViT(student)).state_dict(), folder / "student.pth")
    return folder, teacher, student


@pytest.mark.parametrize("name", FITS)
def test_the_stage_trains_what_is_planned_and_nothing_else(name, weights):
    folder, teacher, student = weights
    config = small(name)
    coupling = config["model"]["coupling"]
    vit = teacher if "vit" in config["model"] else None
    start = str(folder / "student.pth") if coupling.endswith("finetuning") else None
    stage = Distillation(teacher, student, vit, str(folder / "teacher.pth"), start, coupling)
    planned = workload(STAGES[name], config)
    assert trained(planned.model) == trained(nn.ModuleDict({"student": stage.student})) != set()

    planned.step(2).backward()
    reached = {name for name, parameter in planned.model.named_parameters() if parameter.grad is not None}
    assert reached <= trained(planned.model)
    # of the prompt encoder only what `decode` reads, of the decoder all but the head for single masks
    missing = {name for name in trained(planned.model) - reached if ".prompt_encoder." not in name}
    assert all(name.startswith("student.mask_decoder.output_hypernetworks_mlps.0") for name in missing)


@pytest.mark.parametrize("name", ["embed", "evaluate", "evaluate_vit_b"])
def test_stages_that_train_nothing_take_a_step_too(name):
    planned = workload(STAGES[name], small(name))
    assert not trained(planned.model)
    with torch.no_grad():
        planned.step(1)


def test_amounts_are_those_of_the_paper_configs():
    with torch.device("meta"):
        described = {name: workload(stage, configuration(stage)) for name, stage in STAGES.items()}
    small = ("distill_small", "distill_vit_b")
    batches = {name: 8 for name in [*FITS, "embed"]} | dict.fromkeys(small, 4)
    assert {name: made.batch for name, made in described.items()} == batches | {"evaluate": 1, "evaluate_vit_b": 1}
    assert described["distill"].samples == described["embed"].samples == 100_000
    assert described["distill_vit_b"].samples == 11_000 and described["evaluate"].samples == 200
    assert "less than a day" in described["distill"].reported


def test_the_distillation_at_full_size():
    with torch.device("meta"):
        planned = workload(STAGES["distill"], configuration(STAGES["distill"]))
    parameters = list(planned.model.parameters())
    own = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    # as measured on the official code: encoder without the unused head, mask decoder, prompt encoder
    assert own == 5_743_892 and sum(p.numel() for p in parameters) == own + 2 * (4_058_340 + 6_220)  # the teacher's too
    materialise(planned, "bf16-mixed")
    step = measure(planned, 1, "bf16-mixed")
    # every product and convolution has two gradients, but the first convolution, whose input is the image
    assert step.backward == pytest.approx(2 * step.forward, rel=0.01)
