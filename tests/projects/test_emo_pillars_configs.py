"""Emo Pillars' configs: understood by their stages; arms that differ in what they say."""

from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page, settings
from common.recipe import walk

CONFIGS = ROOT / "projects/emo_pillars/configs"
RECIPE = load("emo_pillars")
ARMS = {"mini": RECIPE.arms_for("mini"), "paper": RECIPE.arms_for("paper")}
ARMS |= {"goemotions": RECIPE.arms_for("mini", "goemotions")}
CASES = {
    (scale, stage.name): stage for scale, arms in ARMS.items() for arm in arms.values() for stage in walk(arm.stages)
}


def place(scale):
    return ("mini", scale) if scale == "goemotions" else (scale, "")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    scale, stage = case[0], CASES[case]
    parsed = read_stage(stage, *place(scale))
    if stage.run == "fit":
        assert parsed["trainer"]["gradient_clip_val"] == 1.0 and parsed["data"]["keep_pair"]
        assert parsed["model"]["weight_decay"] == 0.0
    if stage.module.endswith("synthesize"):
        assert parsed["model"]["step"] == stage.name


def trained(arm, scale="mini"):
    return [stage for stage in walk(ARMS[scale][arm].stages) if stage.run == "fit"]


def differences(one, other):
    keys = one.overrides.keys() | other.overrides.keys()
    return {key for key in keys if one.overrides.get(key, "") != other.overrides.get(key, "")}


def test_an_ablation_differs_in_one_setting():
    [plain] = trained("synthetic")
    assert trained("tuned")[0] is plain and len(trained("tuned")) == 2
    for arm, setting in (("unmapped", "remap"), ("cut_0.1", "cut"), ("soft_targets", "cut")):
        assert differences(plain, trained(arm)[0]) == {f"data.task.init_args.{setting}"}
    full, few = trained("contextual")[0], trained("contextual_tenth")[0]
    rhythm = {"trainer.max_epochs", "trainer.check_val_every_n_epoch"}
    assert differences(full, few) == {"data.task.init_args.plots", *rhythm}
    epochs = settings(full, "mini")["trainer"]["max_epochs"]
    assert few.overrides["trainer.max_epochs"] == 10 * epochs and few.overrides["data.task.init_args.plots"] == 0.1
    assert differences(full, trained("untyped")[0]) == {"model.net.token_types"}
    assert differences(plain, trained("tuned_ungrounded")[0]) == {"data.task.init_args.root"}
    assert trained("contextless_on_context") == [plain]


def test_all_classifiers_of_a_world_have_one_vocabulary_and_synthetic_sets_belong_to_their_seed():
    for scale in ("mini", "goemotions"):
        found = {stage.overrides["data.tokenizer"].stage for arm in ARMS[scale] for stage in trained(arm, scale)}
        assert len(found) == 1
    assert not any(
        stage.shared for arm in ARMS["mini"].values() for stage in walk(arm.stages) if stage.name != "vocabulary"
    )


def test_measured_networks_are_those_that_were_trained():
    for scale, arms in ARMS.items():
        for arm in arms.values():
            last = arm.stages[-1]
            if "model.weights" not in last.overrides:
                continue
            of = last.overrides["model.weights"].stage
            nets = []
            for stage in (of, last):
                net = dict(settings(stage, *place(scale))["model"]["net"])
                net |= {
                    k.removeprefix("model.net."): v for k, v in stage.overrides.items() if k.startswith("model.net.")
                }
                nets.append({key: value for key, value in net.items() if value is not None})
            assert nets[0] == nets[1], (scale, last.name)


def test_the_page_says_what_each_data_set_tests():
    decided = [
        claim.id for claim in page("emo_pillars").claims if "mini-goemotions" not in claim.untested and claim.scales
    ]
    assert {"C1-tuned", "sweep"} <= set(decided)
    for claim in page("emo_pillars").claims:
        for scale in claim.scales:
            assert claim.test is not None, (claim.id, scale)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# ") and max(map(len, lines)) <= 120
