"""The page, the arms and the configs: what each stage understands, and what arms differ in."""

from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page
from common.recipe import Output, walk
from projects.controllable_mtl.evaluate import swept
from tests.projects.test_controllable_mtl_search import settings

CONFIGS = ROOT / "projects/controllable_mtl/configs"
RECIPE = load("controllable_mtl")
ARMS = {scale: RECIPE.arms(scale) for scale in ("mini", "paper", "rehearsal")}
CASES = {
    (scale, stage.name): stage
    for scale in ("mini", "paper")
    for arm in ARMS[scale].values()
    for stage in walk(arm.stages)
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    scale, stage = case[0], CASES[case]
    parsed = heeded(stage, scale)
    stages, tasks = len(parsed["model"]["net"]["planes"]), len(parsed["model"]["tasks"])
    assert len(parsed["model"]["widths"] or [1] * (stages + tasks)) == stages + tasks
    assert bool(parsed["data"]["held_out"]) == (scale == "paper") == (parsed["data"]["val"] is None)


def differ(one, other):
    return {
        key
        for key in one.overrides.keys() | other.overrides.keys()
        if one.overrides.get(key) != other.overrides.get(key)
    }


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_differ_in_what_they_compare(scale):
    def stages(arm):
        return list(walk(ARMS[scale][arm].stages))

    train, evaluate = stages("ecmt")
    for arm in ("random_search", "uniform_decoders"):
        assert stages(arm)[0] is train
        assert len(differ(stages(arm)[1], evaluate)) == 1
    assert differ(stages("no_ci")[0], train) == {"model.distill"}
    assert differ(stages("encoder_only")[0], train) == {"model.space.decoders"}
    assert differ(stages("decoder_only")[0], train) == {"model.space.encoder"}
    for arm in ARMS[scale].values():  # a network is used as it was trained
        first, last = walk(arm.stages)
        kept = {
            key: value for key, value in first.overrides.items() if "space" in key or "widths" in key or "cond" in key
        }
        assert kept == {k: v for k, v in last.overrides.items() if k in kept} and isinstance(
            last.overrides["model.weights"], Output
        )
    assert sum(arm.method for arm in ARMS[scale].values()) == 1 or scale == "paper"


def test_the_pages_metrics_are_those_that_are_measured():
    found = page("controllable_mtl")
    assert set(found.metrics) >= {name for name in swept(settings([(0.5, 0.5)] * 5)) if not name.startswith("hv_")}


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
