"""Trans-Encoder's configs: fair comparisons, the paper's settings, and a plan for every stage."""

from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.planning.stages import configuration
from benchmarks.running.recipes import ROOT, load
from common.recipe import Stage, walk
from projects.trans_encoder.harness.plan import workload

CONFIGS = ROOT / "projects/trans_encoder/configs"
RECIPE = load("trans_encoder")
PAPER = RECIPE.arms("paper")
PLANNED = {
    tuple(
        value if isinstance(value := stage.overrides.get(name), str) else "own"
        for name in ("model.start", "data.train.init_args.task")
    ) + (stage.name,): stage
    for arm in (
        "lexical", "simcse", "self_roberta", "continued", "simcse_longer", "contrast_pairs", "supervised_cross",
        "self_roberta_mrpc", "simcse_qnli", "simcse_transfer", "self_roberta_large",
    )
    for stage in walk(PAPER[arm].stages)
    if stage.run == "fit" or arm.startswith(("lexical", "simcse"))
}  # fmt: skip
TRAINED = {
    ("bi", False): 108_891_648, ("cross", False): 109_483_009,
    ("bi", True): 124_055_040, ("cross", True): 124_646_401,
}  # fmt: skip
"""Parameters of BERT-base and RoBERTa-base without a pooler, and with a classifier of one logit."""


def read(scale: str, name: str, base: str = "base") -> dict:
    """A stage's settings: the config that it shares with others, and its own on top."""
    merged: dict = {}
    for file in (base, name):
        content = yaml.safe_load((CONFIGS / scale / f"{file}.yaml").read_text())
        for part, settings in content.items():
            merged[part] = {**merged.get(part, {}), **settings} if isinstance(settings, dict) else settings
    return merged


def stages(arm: str, name: str, scale: str = "paper") -> list[Stage]:
    return [stage for stage in walk(RECIPE.arms(scale)[arm].stages) if stage.name == name]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_the_ceiling_has_the_budget_of_the_distilled_cross_encoders(scale):
    distilled, supervised = read(scale, "cross"), read(scale, "supervised_cross")
    assert supervised["model"].pop("teachers") == {}
    assert distilled["model"] == supervised["model"] and distilled["trainer"] == supervised["trainer"]
    for name in ("batch_size", "both_orders"):
        assert distilled["data"][name] == supervised["data"][name]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_controls_have_the_work_of_the_method(scale):
    """In sentences that are read with gradients, by SimCSE and by all cycles of self-distillation; in trainings."""
    cycles = {"mini": 2, "paper": 3}[scale]
    pairs = {"mini": 2000, "paper": 37_081}[scale]
    cross, bi, longer = (read(scale, name) for name in ("cross", "bi", "contrast_longer"))
    method = cycles * 2 * pairs * (2 * cross["trainer"]["max_epochs"] + bi["trainer"]["max_epochs"])
    if scale == "mini":
        contrastive = 2 * longer["data"]["batch_size"] * longer["trainer"]["max_steps"]
    else:
        contrastive = 2 * 2 * pairs * longer["trainer"]["max_epochs"]
    assert 0.95 < contrastive / method < 1.3
    assert len(stages("self_training", "bi", scale)) == 2 * cycles
    arm = "self" if scale == "mini" else "self_roberta"  # at paper scale `self` holds the RoBERTa's models, too
    assert len(stages(arm, "bi", scale)) == len(stages(arm, "cross", scale)) == cycles


def test_contrastive_training_goes_on_as_it_began():
    first, longer = read("mini", "contrast"), read("mini", "contrast_longer")
    assert first["model"] == longer["model"]
    assert all(config["model"]["keep"] == "best" for config in (first, longer))


def test_the_paper_s_settings():
    cross, bi = read("paper", "cross"), read("paper", "bi")
    assert (cross["model"]["lr"], cross["model"]["warmup"], cross["model"]["loss"]) == (2e-5, 0.1, "bce")
    assert (bi["model"]["lr"], bi["model"]["warmup"], bi["model"]["loss"]) == (5e-5, 0.0, "mse")
    assert (cross["trainer"]["max_epochs"], cross["data"]["batch_size"], cross["data"]["both_orders"]) == (1, 32, True)
    assert (bi["trainer"]["max_epochs"], bi["data"]["batch_size"]) == (10, 128) and "both_orders" not in bi["data"]
    for config in (cross, bi):
        assert config["model"]["weight_decay"] == 0.01 and config["trainer"]["gradient_clip_val"] == 1
        assert config["trainer"]["val_check_interval"] == 200 and config["model"]["keep"] == "best"


def test_tasks_with_classes_have_more_cycles_and_epochs():
    for kind, epochs in (("cross", 3), ("bi", 15)):
        similarity, classes = read("paper", kind), read("paper", f"{kind}_classes", "classes")
        assert similarity["model"] == classes["model"] and classes["trainer"].pop("max_epochs") == epochs
        assert {**classes["trainer"], "max_epochs": 0} == {**similarity["trainer"], "max_epochs": 0}
    for task in ("qqp", "qnli", "mrpc"):
        crosses, bis = (stages(f"self_roberta_{task}", f"{kind}_classes") for kind in ("cross", "bi"))
        assert len(crosses) == len(bis) == 5
        assert all(stage.overrides["data.train.init_args.task"] == task for stage in (*crosses, *bis))
        assert all(stage.overrides.get("data.both_orders", True) == (task != "qnli") for stage in crosses)


def test_large_bi_encoders_have_half_the_batch():
    assert {stage.overrides["data.batch_size"] for stage in stages("mutual_large", "bi")} == {64}
    assert all("data.batch_size" not in stage.overrides for stage in stages("mutual_large", "cross"))
    assert all("large" in stage.overrides["model.start"] for stage in stages("mutual_large", "bi"))


def test_published_models_are_measured_as_they_are():
    (stage,) = stages("released_roberta_large", "evaluate")
    assert stage.shared and not stage.upstream()
    assert stage.overrides["model.cross.1"] == "cambridgeltl/trans-encoder-cross-simcse-roberta-large"


def test_real_pairs_take_the_same_stages_with_another_language_model():
    world, real = RECIPE.arms_for("mini"), RECIPE.arms_for("mini", "sts")
    assert list(world) == list(real)
    assert {stage.name for arm in real.values() for stage in walk(arm.stages)} == {
        stage.name.replace("sentence_", "sts_") for arm in world.values() for stage in walk(arm.stages)
    }


@pytest.mark.parametrize("key", PLANNED, ids=lambda key: "-".join(key).replace("/", "+"))
def test_a_stage_can_be_planned(key):
    stage = PLANNED[key]
    with torch.device("meta"):
        config = configuration(stage)
        planned = workload(stage, config)
        planned.step(2)
    trained = sum(parameter.numel() for parameter in planned.model.parameters() if parameter.requires_grad)
    if stage.run == "test":
        assert trained == 0
    elif "student" in config["model"] and "large" not in config["model"]["start"]:
        assert trained == TRAINED[config["model"]["student"], "roberta" in config["model"]["start"]]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
