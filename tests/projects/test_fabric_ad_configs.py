"""Fabric anomaly detection's configs: understood by their stages; arms that differ in what they compare."""

from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page, settings
from common.recipe import walk
from projects.fabric_ad.recipe import SEEN, SEVERAL, STUDENTS, UNSEEN
from projects.fabric_ad.weaves import FABRICS

CONFIGS = ROOT / "projects/fabric_ad/configs"
RECIPE = load("fabric_ad")
ARMS = {
    "mini": RECIPE.arms_for("mini"),
    "textile": RECIPE.arms_for("mini", "textile"),
    "paper": RECIPE.arms_for("paper"),
}
CASES = {(scale, s.name): s for scale, arms in ARMS.items() for arm in arms.values() for s in walk(arm.stages)}


def place(scale):
    return ("mini", scale) if scale == "textile" else (scale, "")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    parsed = read_stage(CASES[case], *place(case[0]))
    if "categories" in parsed["data"]:
        assert parsed["data"]["categories"] == CASES[case].overrides["data.categories"]


@pytest.mark.parametrize("scale", ARMS)
def test_what_is_measured_is_what_was_trained(scale):
    for name, arm in ARMS[scale].items():
        *trained, last = walk(arm.stages)
        measured = settings(last, *place(scale))["model"]
        for stage in (s for s in trained if s.module.endswith(".distill")):
            config = settings(stage, *place(scale))["model"]
            assert config["student"] == measured["student"] and config["teacher"] == measured["teacher"]
            given = {key: last.overrides.get(key) for key in stage.overrides if key.startswith("model.teacher")}
            assert given == {key: value for key, value in stage.overrides.items() if key.startswith("model.teacher")}
            tested, learned = last.overrides["data.categories"], stage.overrides["data.categories"]
            assert not set(tested) & set(learned) if name.endswith("_unseen") else set(learned) <= set(tested)


@pytest.mark.parametrize("scale", ["mini", "textile"])
def test_arms_differ_in_their_student_alone(scale):
    given = [
        {**settings(CASES[scale, kind], *place(scale)), "name": kind, "overrides": CASES[scale, kind].overrides.keys()}
        for kind in STUDENTS
        if (scale, kind) in CASES
    ]
    for other in given[1:]:
        assert other["data"] == given[0]["data"] and other["trainer"] == given[0]["trainer"]
        assert other["overrides"] == given[0]["overrides"]
        changed = {k for k in other["model"] | given[0]["model"] if other["model"].get(k) != given[0]["model"].get(k)}
        assert changed == ({"student", "loss"} if other["name"] == "rd" else {"student"})


def test_every_drawn_fabric_is_either_seen_or_not():
    assert {*SEVERAL, *UNSEEN} == set(FABRICS) and not {*SEVERAL} & {*UNSEEN} and {*SEEN} <= {*SEVERAL}


def test_a_claim_that_photographs_cannot_judge_says_why():
    claims = page("fabric_ad").claims
    assert claims and all(claim.untested.get("mini-textile", "x").strip() for claim in claims)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
