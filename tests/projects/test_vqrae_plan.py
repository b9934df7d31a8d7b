"""VQRAE's workloads: the stages' own parameters, steps that real tensors can take, the paper's amounts."""

from functools import partial

import pytest
import torch

from benchmarks.planning.stages import configuration
from common.models.classifiers import convnext, vgg16
from common.recipe import walk
from projects.vqrae.harness import plan
from projects.vqrae.harness.plan import QWEN, TOWERS, WORDS, workload
from projects.vqrae.recipe import RECIPE

STAGES = {stage.name: stage for arm in RECIPE.arms("paper").values() for stage in walk(arm.stages)}
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def small(name: str) -> dict:
    """A stage's config with a codebook that a test can afford."""
    config = configuration(STAGES[name])
    config["model"]["codebook"] |= {"size": 20, "dim": 12}
    config["data"]["image_size"] = 4 * TOWERS[config["model"]["encoder"]["hub"]]["patch_size"]
    return config


@pytest.fixture
def towers(monkeypatch):
    for hub, sizes in TOWERS.items():
        patch = sizes["patch_size"]
        monkeypatch.setitem(TOWERS, hub, {**SMALL, "patch_size": patch, "image_size": 4 * patch})
    for key, value in {**SMALL, "num_key_value_heads": 1, "head_dim": 16}.items():
        monkeypatch.setitem(QWEN, key, value)
    monkeypatch.setattr(plan, "WORDS", 50)
    monkeypatch.setattr(plan, "vgg16", partial(vgg16, 2, 3))
    monkeypatch.setattr(plan, "convnext", partial(convnext, (8, 8, 8, 8), (1, 1, 1, 1), 3))


@pytest.mark.parametrize("name", ["stage1", "stage2", "one_stage", "rae", "full_stage1", "full_stage2"])
def test_a_training_step_teaches_what_the_stage_trains(towers, name):
    config = small(name)
    planned = workload(STAGES[name], config)
    planned.step(2).backward()
    reached = {key for key, p in planned.model.named_parameters() if p.grad is not None}
    learning = {key for key, p in planned.model.named_parameters() if p.requires_grad}
    assert reached == learning
    tuned = any(key.startswith("tokenizer.encoder.") for key in reached)
    assert tuned == config["model"].get("train_encoder", False)
    assert ("tokenizer.quantizer.codes" in reached) == (config["model"]["codebook"].get("kind") == "plain")
    assert any(key.startswith("discriminator.") for key in reached) == ("adversary" in config["model"])
    assert ("teacher" in dict(planned.model.named_children())) == bool(config["model"].get("distill_weight"))


def test_the_prior_alone_learns_its_codes_and_can_draw(towers):
    planned = workload(STAGES["prior"], small("prior"))
    planned.step(2).backward()
    reached = {key.split(".")[0] for key, p in planned.model.named_parameters() if p.grad is not None}
    assert reached == {"1"}  # the language model; the tokenizer is frozen
    for name in ("evaluate", "sample"):
        with torch.no_grad():
            side = small(name)["data"]["image_size"]
            assert workload(STAGES[name], small(name)).step(1).shape == (1, 3, side, side)


@pytest.mark.parametrize(("guidance", "lengths"), [(7.5, [512 + 16, 1 + 16]), (1.0, [512 + 16])])
def test_guidance_asks_the_language_model_twice(towers, guidance, lengths):
    config = small("sample")
    assert config["model"]["guidance"] == 7.5
    config["model"]["guidance"] = guidance
    planned = workload(STAGES["sample"], config)
    seen: list[int] = []
    planned.model[1].register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        planned.step(1)
    assert seen == lengths


def test_amounts_are_those_of_the_paper_configs():
    with torch.device("meta"):
        described = {name: workload(STAGES[name], configuration(STAGES[name])) for name in ("stage1", "prior")}
    assert described["stage1"].batch == 64 and described["stage1"].samples == 1_281_167
    assert described["prior"].batch == 8 and described["prior"].samples == 36_000_000
    language = described["prior"].model[1]
    assert language.get_input_embeddings().weight.shape == (WORDS + 16384 + 1, 1024)
    towers = [p.numel() for k, p in described["stage1"].model.named_parameters() if k.startswith("tokenizer.encoder.")]
    assert 410e6 < sum(towers) < 420e6  # the image tower of so400m without its pooling head
