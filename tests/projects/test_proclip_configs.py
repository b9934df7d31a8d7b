"""ProCLIP's configs: understood by their stages; arms that differ in what they say; tests and trainings apart."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.running.recipes import ROOT, load, settings
from common.data.worlds.tiles import TileScenes
from common.recipe import walk

CONFIGS = ROOT / "projects/proclip/configs"
RECIPE = load("proclip")
ARMS = {scale: RECIPE.arms_for(scale) for scale in ("mini", "paper")}
CASES = {
    (scale, stage.name): stage
    for scale, arms in ARMS.items()
    for arm in arms.values()
    for stage in walk(arm.stages)
    if stage.module.startswith("projects.")
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    heeded(CASES[case], case[0])


@pytest.mark.parametrize("scale", ARMS)
def test_what_is_embedded_is_what_is_trained_and_measured_on(scale):
    def data(name):
        return settings(CASES[scale, name], scale)["data"]

    for split in ("test", "val"):
        assert data("embed_tests")["source"]["init_args"][split] == data("evaluate")[split]
    pairs = data("embed_pairs")["source"]
    assert pairs["class_path"] == data("tune")["train"]["class_path"]
    if scale == "mini":
        assert pairs == data("tune")["train"] == data("inherit_strict")["train"]
        assert data("embed_texts")["source"] == data("inherit")["train"]


def differ(scale, one, other, name):
    """Settings of two arms' stages of a name that are not the same, other stages' outputs by their own settings."""

    def of(arm):
        [stage] = [stage for stage in walk(ARMS[scale][arm].stages) if stage.name == name]
        return dict(stage.overrides)

    one, other = of(one), of(other)
    return {key for key in one.keys() | other.keys() if one.get(key, "") != other.get(key, "")}


@pytest.mark.parametrize("scale", ARMS)
def test_arms_differ_in_what_they_compare(scale):
    assert differ(scale, "proclip", "direct", "tune") == {"model.adapter", "model.weight"}
    assert differ(scale, "direct", "lit", "tune") == {"model.weight", "model.tune_images"}
    assert differ(scale, "proclip", "no_inherit", "tune") == {"model.adapter"}
    assert differ(scale, "proclip", "no_reg", "tune") == {"model.weight"}
    if scale == "paper":
        assert differ(scale, "proclip", "frozen_teacher", "tune") == {"model.decay"}
    assert differ(scale, "proclip", "no_struct", "inherit") == {"model.structure"}
    tune = settings(CASES[scale, "tune"], scale)["model"]
    assert tune["weight"] > 0 and 0 < tune["decay"] < 1  # what the arms switch off is on


def test_no_scene_of_a_test_is_trained_on_and_unseen_kinds_are_unseen():
    pairs = settings(CASES["mini", "tune"], "mini")["data"]["train"]["init_args"]["scenes"]["init_args"]
    source = TileScenes(**pairs)
    shown = {f"{tile.colour} {tile.shape}" for k in range(len(source)) for tile in source.tiles(k)}
    measured = settings(CASES["mini", "evaluate"], "mini")["data"]
    assert shown == set(measured["test"]["labelled"]["kinds"]["seen"]) and len(shown) == 36
    for split in ("test", "val"):
        for captioned in measured[split]["captioned"].values():
            given = captioned["init_args"]["scenes"]["init_args"]
            assert given["split"] == split
            other = TileScenes(**{**given, "size": 5})
            assert not any(np.array_equal(other.scene(k).image, source.scene(k).image) for k in range(5))


def test_all_of_the_papers_sets_are_measured():
    test = yaml.safe_load((CONFIGS / "paper/evaluate.yaml").read_text())["data"]["test"]
    assert len(test["labelled"]) == 11
    assert len(test["captioned"]) == 7 and "xm3600" in test["captioned"]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
