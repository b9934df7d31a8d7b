"""Quantized distillation's configs: understood by their stages; arms that differ in what they say."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page, settings
from common.recipe import walk

CONFIGS = ROOT / "projects/quantized_distillation/configs"
RECIPE = load("quantized_distillation")
ARMS = {"mini": RECIPE.arms_for("mini"), "paper": RECIPE.arms_for("paper")}
ARMS |= {data: RECIPE.arms_for("mini", data) for data in RECIPE.data}
CASES = {
    (scale, stage.name): stage
    for scale, arms in ARMS.items()
    for arm in arms.values()
    for stage in walk(arm.stages)
    if stage.module.startswith("projects.")
}


def place(scale):
    return ("mini", scale) if scale.startswith("cifar10") else (scale, "")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    scale, stage = case[0], CASES[case]
    parsed = read_stage(stage, *place(scale))
    if stage.name.startswith(("quantized", "points", "evaluate_quantized")):
        assert parsed["model"]["quantizer"]["bits"] == int(stage.name[-1])
    if stage.run == "fit":
        shown = parsed["data"]["train"]
        assert ("Part" in shown["class_path"]) == (scale != "mini")
        assert parsed["model"]["net"]["side"] == parsed["data"]["image_size"]
        assert parsed["data"]["wrong"] == (0.2 if scale == "mini" and stage.name != "teacher" else 0)


@pytest.mark.parametrize("scale", ARMS)
def test_arms_of_one_number_of_bits_differ_in_what_they_compare(scale):
    def stages(arm):
        return {stage.name: stage for stage in walk(ARMS[scale][arm].stages)}

    def differ(one, other):
        keys = one.overrides.keys() | other.overrides.keys()
        return {key for key in keys if one.overrides.get(key, "") != other.overrides.get(key, "")}

    for bits in (2, 4):
        name = f"quantized_{bits}"
        labels, taught = stages(f"quantized_labels_{bits}")[name], stages(f"qd_{bits}")[name]
        assert differ(labels, taught) <= {"model.teacher_weights", "model.net.dropout"}
        after, buckets = stages(f"pm_{bits}"), stages(f"pm_bucket_{bits}")
        assert differ(after[f"evaluate_{name}"], buckets[f"evaluate_{name}"]) == {"model.quantizer.bucket"}
        assert after["whole_weights"] is buckets["whole_weights"] is stages("distilled")["whole_weights"]
        assert stages(f"dq_{bits}")["whole_weights"] is after["whole_weights"]
    where = place(scale)
    rates = [settings(CASES[scale, name], *where)["model"] for name in ("whole_weights", "quantized_4", "quantized_2")]
    assert all(later.get("lr", 0) <= earlier.get("lr", 0) for earlier, later in pairwise(rates))


def test_measured_networks_are_those_that_were_trained():
    for scale, arms in ARMS.items():
        for arm in arms.values():
            *_, last = walk(arm.stages)
            for stage in (one for one in last.upstream() if one.module.startswith("projects.")):
                trained, measured = ({**settings(s, *place(scale))["model"]["net"]} for s in (stage, last))
                for net, one in ((trained, stage), (measured, last)):
                    net |= {k.split(".")[-1]: v for k, v in one.overrides.items() if k.startswith("model.net.")}
                    net.pop("dropout", None)
                assert trained == measured, (scale, last.name)


def test_no_picture_of_validation_is_trained_on_and_data_sets_say_why_a_claim_is_untested():
    for (scale, _), stage in CASES.items():
        data = settings(stage, *place(scale)).get("data", {})
        if scale != "mini" and "train" in data:
            train, val = data["train"]["init_args"], data["val"]["init_args"]
            assert train["start"] + train["count"] <= val["start"] and val["start"] + val["count"] == 50_000
    for claim in page("quantized_distillation").claims:
        if claim.id.startswith("C6"):
            assert {"mini-cifar10", "mini-cifar10_full"} <= set(claim.untested)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
