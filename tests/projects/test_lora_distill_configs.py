"""LoRA distillation's configs: understood by their stages, arms with one difference, the official settings."""

import pytest

from benchmarks.judging.forms import OnReported, measures
from benchmarks.running import recipes
from benchmarks.running.recipes import load, settings
from common.recipe import Output, walk

ARMS = {scale: load("lora_distill").arms(scale) for scale in ("mini", "paper")}
TRIED = ("guided", "lora_4_linear", "lora_4_ramp", "full", "lora_4_real", "sd21_full")
CASES = {
    (scale, arm, stage.name): stage
    for scale, arms in ARMS.items()
    for arm in TRIED
    if arm in arms
    for stage in walk(arms[arm].stages)
    if stage.module.startswith("projects.") and (stage.name != "pictures" or arm == "guided")
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    stage = CASES[case]
    parsed = read_stage(stage, case[0])
    assert parsed["model"]
    if stage.run == "fit":
        assert (parsed["model"]["lora"] is None) == (case[1] == "full")
        assert parsed["model"]["guidance"] == {"mini": 2.0, "paper": 7.5}[case[0]]


@pytest.mark.parametrize("scale", ARMS)
def test_students_differ_in_one_thing_and_take_the_same_steps(scale):
    def training(arm):
        return next(stage for stage in walk(ARMS[scale][arm].stages) if stage.name == "distill")

    own = training("lora_4").overrides
    changed = {
        "lora_1": {"model.lora"}, "lora_16": {"model.lora"}, "lora_4_linear": {"model.lora"},
        "lora_4_ramp": {"model.schedule"}, "full": {"model.lora", "model.lr"},
    }  # fmt: skip
    for arm, keys in changed.items():
        found = training(arm).overrides
        assert {key for key in found.keys() | own.keys() if found.get(key, "") != own.get(key, "")} == keys, arm
        assert not any(key.startswith("trainer") for key in found)


@pytest.mark.parametrize("scale", ARMS)
def test_an_evaluation_builds_the_student_that_was_trained(scale):
    for name, arm in ARMS[scale].items():
        stage = arm.stages[-1]
        if "model.weights" in stage.overrides:
            distilled = stage.overrides["model.weights"].stage
            assert stage.overrides.get("model.lora", "") == distilled.overrides.get("model.lora", ""), name
            configs = [settings(found, scale)["model"] for found in (stage, distilled)]
            assert configs[0]["lora"] == configs[1]["lora"] and configs[0]["guidance"] == configs[1]["guidance"]


def test_the_paper_s_scale_has_the_official_settings():
    stage = next(stage for stage in walk(ARMS["paper"]["lora_4"].stages) if stage.name == "distill")
    found = settings(stage, "paper")
    assert found["model"]["lora"] == {"rank": 4, "gaussian": True} and found["model"]["lr"] == 5e-4
    assert found["model"]["weight_decay"] == 1e-2 and found["trainer"]["gradient_clip_val"] == 1.0
    assert found["data"]["batch_size"] == 1 and found["trainer"]["max_steps"] == 50_000
    full = next(stage for stage in walk(ARMS["paper"]["full"].stages) if stage.name == "distill")
    assert full.overrides["model.lr"] == 5e-6
    parts = [found["data"]["train"]["init_args"]]
    drawn = next(stage for stage in walk(ARMS["paper"]["lora_4"].stages) if stage.name == "pictures")
    parts += [settings(drawn, "paper")["data"][split]["init_args"] for split in ("val", "test")]
    assert [(part["first"], part["last"]) for part in parts] == [(0, 50), (50, 51), (51, 56)]  # none in two splits


def test_students_are_judged_on_what_none_of_them_learned_from():
    for scale, arms in ARMS.items():
        for name, arm in arms.items():
            for stage in walk(arm.stages):
                used = {key: value for key, value in stage.overrides.items() if isinstance(value, Output)}
                for key, value in used.items():
                    if key.startswith("data."):
                        assert value.file == key.split(".")[1], (scale, name, stage.name)
                if stage.run == "test" and stage.name == "evaluate":
                    assert "data.train.init_args.root" not in used


def test_every_arm_stands_in_a_table_or_claim_or_is_a_control():
    page = recipes.page("lora_distill")
    named = {row.arm for table in page.tables for row in table.rows}
    tests = [claim.test for claim in page.claims if claim.test and not isinstance(claim.test, OnReported)]
    named |= {measure.arm for test in tests for measure in measures(test)}
    assert set(ARMS["mini"]) - named <= {"lora_4_real"} and set(ARMS["paper"]) <= named
