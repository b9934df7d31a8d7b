"""PromptKD's configs: understood by their stages, arms with one difference, the official settings, honest splits."""

import pytest

from benchmarks.judging.forms import OnReported, measures
from benchmarks.running import recipes
from benchmarks.running.recipes import load, settings
from common.data.readers.zero_shot_sets import SETS
from common.recipe import Output, walk
from projects.promptkd import recipe

ARMS = {scale: load("promptkd").arms(scale) for scale in ("mini", "paper")}
TRIED = {"mini": list(ARMS["mini"]), "paper": ["teacher", "promptkd", "full_finetune", "promptkd_dtd", "cross_dtd"]}
STAGES = {
    (scale, arm, stage.name): stage
    for scale, arms in TRIED.items()
    for arm in arms
    for stage in ARMS[scale][arm].stages + ARMS[scale][arm].stages[-1].upstream()
    if stage.module.startswith("projects.")
}


def stage_of(scale, arm, name):
    return next(stage for stage in walk(ARMS[scale][arm].stages) if stage.name == name)


@pytest.mark.parametrize("scale", ARMS)
def test_stages_understand_their_configs_and_settings(scale, heeded):
    seen = set()
    for (where, _, name), stage in STAGES.items():
        keys = (name, *sorted(stage.overrides))
        if where == scale and keys not in seen:
            seen.add(keys)
            parsed = heeded(stage, scale)
            assert parsed["model"]["clip"] and parsed["data"]["image_size"] == {"mini": 16, "paper": 224}[scale]


@pytest.mark.parametrize("scale", ARMS)
def test_students_differ_in_one_thing(scale):
    own = stage_of(scale, "promptkd", "distill").overrides
    changed = {
        "projector_only": {"model.depth"}, "full_finetune": {"model.depth", "model.tower"},
        "own_text": {"model.own_text"}, "feature_l1": {"model.imitated"}, "feature_mse": {"model.imitated"},
        "same_teacher": {"model.teacher", "model.teacher_prompts"}, "plain_teacher": {"model.teacher_prompts"},
        "weak_teacher": {"model.teacher", "model.teacher_prompts"},
    }  # fmt: skip
    for arm, keys in changed.items():
        found = stage_of(scale, arm, "distill").overrides
        differ = {key for key in found.keys() | own.keys() if found.get(key, "") != own.get(key, "")}
        assert differ - {"model.optimiser.lr"} == keys, arm
    plain, supervised = (stage_of(scale, arm, "teach").overrides for arm in ("supervised_plain", "supervised"))
    assert plain == {**supervised, "model.consistency": False}


def test_arms_of_the_mini_scale_take_as_many_steps():
    for arm in ARMS["mini"]:
        for stage in walk(ARMS["mini"][arm].stages):
            found = settings(stage, "mini")
            if stage.name == "teach":
                classes = 10 if stage.overrides.get("data.base", True) else 20
                epochs = stage.overrides.get("trainer.max_epochs", found["trainer"]["max_epochs"])
                assert found["data"]["per_class"] * classes // 32 * epochs == 300, arm
            if stage.name == "distill":
                pictures = stage.overrides.get("data.train.init_args.size", found["data"]["train"]["init_args"]["size"])
                epochs = stage.overrides.get("trainer.max_epochs", found["trainer"]["max_epochs"])
                assert pictures // 32 * epochs == pytest.approx(300, rel=0.05), arm


def test_no_class_of_the_other_set_is_one_of_the_domain():
    domain = settings(stage_of("mini", "promptkd", "distill"), "mini")["data"]["train"]["init_args"]["kinds"]
    elsewhere = stage_of("mini", "cross", "teach").overrides["data.train.init_args.kinds"]
    assert len(set(domain)) == len(set(elsewhere)) == 20 and not set(domain) & set(elsewhere)
    test = settings(stage_of("mini", "promptkd", "evaluate"), "mini")["data"]["test"]["init_args"]
    assert test["kinds"] == domain and test["split"] == "test"


def test_the_paper_s_scale_has_the_official_settings(heeded):
    found = heeded(stage_of("paper", "promptkd_dtd", "distill"), "paper")
    model, data = found["model"], found["data"]
    assert (model["weight"], model["temperature"], model["depth"], model["count"], model["layers"]) == (200, 1, 9, 4, 2)
    assert model["optimiser"] == {
        "lr": 0.005, "first": 1e-5, "stretches": None, "weight_decay": 5e-4, "momentum": 0.9
    }  # fmt: skip
    assert data["batch_size"] == 8 and found["trainer"]["max_epochs"] == 20 and data["per_class"] is None
    assert data["augment"] and {data[split]["init_args"]["name"] for split in ("train", "val")} == {"dtd"}
    teach = heeded(stage_of("paper", "promptkd_dtd", "teach"), "paper")
    assert teach["data"]["per_class"] == 16 and teach["data"]["base"] and teach["data"]["batch_size"] == 8
    wanted = {"text_weight": 25, "image_weight": 10, "average_mean": 15, "average_std": 1, "depth": 9}
    assert {key: teach["model"][key] for key in wanted} == wanted
    small = stage_of("paper", "supervised_dtd", "teach").overrides
    assert small["data.batch_size"] == 4 and small["model.optimiser.lr"] == 0.0025
    cross = stage_of("paper", "cross_dtd", "distill").overrides
    assert cross["model.depth"] == 3 and "model.weight" in stage_of("paper", "promptkd_dtd", "distill").overrides
    carried = heeded(stage_of("paper", "cross_supervised_dtd", "teach"), "paper")
    assert (carried["data"]["batch_size"], carried["model"]["optimiser"]["lr"]) == (8, 0.005)
    assert [carried["model"][key] for key in ("depth", "average_mean", "average_std")] == [3, 6, 10]
    source = stage_of("paper", "cross_dtd", "teach")
    assert source.overrides["data.base"] is False and "data.train.init_args.name" not in source.overrides


@pytest.mark.parametrize("arm", ["promptkd_dtd", "zero_shot_dtd", "cross_supervised_dtd"])
def test_a_set_is_measured_on_its_own_classes(arm, heeded):
    data = heeded(ARMS["paper"][arm].stages[-1], "paper")["data"]
    assert data["train"] is None and {data[split]["init_args"]["name"] for split in ("val", "test")} == {"dtd"}


def test_all_eleven_sets_are_measured():
    for name in SETS:
        weight = stage_of("paper", f"promptkd_{name}", "distill").overrides.get("model.weight", 1000)
        assert weight == (200 if name in ("fgvc_aircraft", "oxford_flowers", "dtd") else 1000)
        assert (f"cross_{name}" in ARMS["paper"]) == (name != "imagenet")


def test_students_are_judged_with_what_was_stored_and_no_training_picture():
    for arms in ARMS.values():
        for arm in arms.values():
            measured = arm.stages[-1]
            assert measured.name == "evaluate" and not any(key.startswith("data.train") for key in measured.overrides)
            for key, value in measured.overrides.items():
                if isinstance(value, Output) and key == "model.student":
                    assert value.stage.overrides["model.clip"] == measured.overrides["model.clip"]


def test_every_arm_stands_in_a_table_or_claim_or_is_a_control():
    page = recipes.page("promptkd")
    named = {row.arm for table in page.tables for row in table.rows}
    tests = [claim.test for claim in page.claims if claim.test and not isinstance(claim.test, OnReported)]
    named |= {measure.arm for test in tests for measure in measures(test)}
    assert set(ARMS["mini"]) - named <= {"weak_itself", "supervised_plain", "cross_teacher"}
    assert set(ARMS["paper"]) - named <= {"weak_itself", "supervised_plain"}


@pytest.mark.parametrize("scale", ARMS)
def test_a_stage_that_arms_share_is_one_object(scale):
    """Else the harness finds no run of what a stage reads from."""
    stages = {stage for arm in ARMS[scale].values() for stage in walk(arm.stages) if stage.run == "fit"}
    written = [(stage.name, {**stage.overrides}) for stage in stages]
    for stage, (name, overrides) in zip(stages, written, strict=True):
        same = [other for other in written if other == (name, overrides)]
        assert len(same) == 1, (stage.name, stage.overrides)


def test_the_recipe_names_the_sets_as_their_reader_does():
    assert list(recipe.SETS.items()) == [(name, layout.folder) for name, layout in SETS.items()]
