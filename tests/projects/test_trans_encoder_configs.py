"""Trans-Encoder's configs: fair comparisons, the paper's settings, and a plan for every stage."""

from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.planning.stages import configuration
from benchmarks.running.recipes import ROOT, load
from common.recipe import walk
from projects.trans_encoder.harness.plan import workload

CONFIGS = ROOT / "projects/trans_encoder/configs"
RECIPE = load("trans_encoder")
PLANNED = {
    (arm, stage.name, str(stage.overrides.get("model.start"))): stage
    for arm, content in RECIPE.arms("paper").items()
    if arm in ("lexical", "self", "self_roberta", "continued", "simcse_longer", "supervised_cross")
    for stage in walk(content.stages)
}
TRAINED = {
    ("bi", False): 108_891_648, ("cross", False): 109_483_009,
    ("bi", True): 124_055_040, ("cross", True): 124_646_401,
}  # fmt: skip
"""Parameters of BERT-base and RoBERTa-base without a pooler, and with a classifier of one logit."""


def read(scale: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / scale / f"{name}.yaml").read_text())


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_the_ceiling_has_the_budget_of_the_distilled_cross_encoders(scale):
    distilled, supervised = read(scale, "cross"), read(scale, "supervised_cross")
    assert supervised["model"].pop("teachers") == {}
    assert distilled["model"] == supervised["model"] and distilled["trainer"] == supervised["trainer"]
    for name in ("batch_size", "both_orders"):
        assert distilled["data"][name] == supervised["data"][name]


def test_contrastive_training_goes_on_as_it_began():
    first, longer = read("mini", "contrast"), read("mini", "contrast_longer")
    assert first["model"] == longer["model"] and first["trainer"] == longer["trainer"]


def test_the_paper_s_settings():
    cross, bi = read("paper", "cross"), read("paper", "bi")
    assert (cross["model"]["lr"], cross["model"]["warmup"], cross["model"]["loss"]) == (2e-5, 0.1, "bce")
    assert (bi["model"]["lr"], bi["model"]["warmup"], bi["model"]["loss"]) == (5e-5, 0.0, "mse")
    assert (cross["trainer"]["max_epochs"], cross["data"]["batch_size"], cross["data"]["both_orders"]) == (1, 32, True)
    assert (bi["trainer"]["max_epochs"], bi["data"]["batch_size"]) == (10, 128) and "both_orders" not in bi["data"]
    for config in (cross, bi):
        assert config["model"]["weight_decay"] == 0.01 and config["trainer"]["gradient_clip_val"] == 1
        assert config["trainer"]["val_check_interval"] == 200 and config["model"]["keep"] == "best"


def test_real_pairs_take_the_same_stages_with_another_language_model():
    world, real = RECIPE.arms_for("mini"), RECIPE.arms_for("mini", "sts")
    assert list(world) == list(real)
    assert {stage.name for arm in real.values() for stage in walk(arm.stages)} == {
        stage.name.replace("sentence_", "sts_") for arm in world.values() for stage in walk(arm.stages)
    }
    bi, cross = read("mini/sts", "bi"), read("mini/sts", "cross")
    assert bi["data"] == cross["data"]


@pytest.mark.parametrize("key", PLANNED, ids="-".join)
def test_a_stage_can_be_planned(key):
    stage = PLANNED[key]
    with torch.device("meta"):
        config = configuration(stage)
        planned = workload(stage, config)
        planned.step(2)
    trained = sum(parameter.numel() for parameter in planned.model.parameters() if parameter.requires_grad)
    if stage.run == "test":
        assert trained == 0
    elif stage.name != "contrast_longer":
        assert trained == TRAINED[config["model"]["student"], "roberta" in config["model"]["start"]]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
