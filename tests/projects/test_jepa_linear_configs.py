"""Deep linear JEPA's configs: understood by their stages, arms that differ in what they say, scales of one setting."""

from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page, settings
from common.recipe import walk
from projects.jepa_linear.recipe import DEPTHS

CONFIGS = ROOT / "projects/jepa_linear/configs"
ARMS = {scale: load("jepa_linear").arms(scale) for scale in ("mini", "paper")}
CASES = {
    (scale, stage.name, stage.overrides.get("model.objective", "")): stage
    for scale, arms in ARMS.items()
    for arm in arms.values()
    for stage in walk(arm.stages)
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    scale, stage = case[0], CASES[case]
    parsed = read_stage(stage, scale, output="x.safetensors")
    assert parsed["trainer"]["accelerator"] == "cpu" and parsed["threads"] == 1
    if stage.run == "fit":
        assert parsed["model"]["eps"] == 0.02 and parsed["data"]["source"]["class_path"].startswith(
            "projects.jepa_linear"
        )


@pytest.mark.parametrize("scale", ARMS)
def test_jepa_and_mae_differ_in_their_objective_alone(scale):
    for name, arm in ARMS[scale].items():
        other = ARMS[scale].get(name.replace("jepa", "mae"), arm)
        for ours, theirs in zip(walk(arm.stages), walk(other.stages), strict=True):
            assert ours.name == theirs.name
            keys = {key for key in ours.overrides.keys() | theirs.overrides.keys()} - {"model.objective"}
            same = {k for k in keys if ours.overrides.get(k) == theirs.overrides.get(k) or k.startswith("data.runs")}
            assert keys - same <= {"model.longer"}  # a ReLU's time, see the README


@pytest.mark.parametrize("scale", ARMS)
def test_networks_have_all_depths(scale):
    for objective in ("jepa", "mae"):
        stages = [stage for stage in walk(ARMS[scale][objective].stages) if stage.run == "fit"]
        assert tuple(stage.overrides["model.depth"] for stage in stages) == DEPTHS


def test_scales_differ_in_amounts_alone():
    amounts = {"count", "samples"}

    def flat(value, prefix=""):
        for key, inner in value.items():
            if isinstance(inner, dict):
                yield from flat(inner, f"{prefix}{key}.")
            elif key not in amounts:
                yield f"{prefix}{key}", inner

    for (scale, name, objective), stage in CASES.items():
        if scale == "mini":
            paper = CASES["paper", name, objective]
            assert dict(flat(settings(stage, "mini"))) == dict(flat(settings(paper, "paper")))


def test_the_page_names_metrics_of_every_depth_and_each_claim_its_scales():
    found = page("jepa_linear")
    for depth in DEPTHS:
        assert {f"{name}_{depth}" for name in ("inversions", "small_inversions", "spread", "rank", "flips")} <= set(
            found.metrics
        )
    assert all(not claim.untested for claim in found.claims)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
