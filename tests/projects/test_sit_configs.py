"""SiT's configs: understood by their stages; arms that differ in what they say; a page that fits."""

from pathlib import Path

import pytest
import yaml

from benchmarks.running.recipes import ROOT, load, page, settings
from common.recipe import walk

CONFIGS = ROOT / "projects/sit/configs"
RECIPE = load("sit")
ARMS = {
    "mini": RECIPE.arms_for("mini"),
    "paper": RECIPE.arms_for("paper"),
    "cifar10": RECIPE.arms_for("mini", "cifar10"),
}
CASES = {
    (scale, f"{arm}-{stage.name}"): stage
    for scale, arms in ARMS.items()
    for arm in ("frd", "other", "topk_mild", "teacher", "large", "deit", "teacher_other")
    if arm in arms
    for stage in walk(arms[arm].stages)
}


def place(scale):
    return ("mini", scale) if scale == "cifar10" else (scale, "")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    stage = CASES[case]
    if "model.net" in stage.overrides:  # a whole network in place of the config's: some of its sizes stand beside it
        return
    parsed = heeded(stage, *place(case[0]))
    side = parsed["data"]["image_size"]
    assert parsed["model"]["net"]["name"] or parsed["model"]["net"]["image_size"] == side
    if stage.name == "slim":
        trainer, model = parsed["trainer"], parsed["model"]
        assert model["epochs"] <= trainer["max_epochs"]
        assert (parsed["data"]["augmentation"], parsed["data"]["repeats"]) == {
            "mini": ("none", 1), "cifar10": ("crops", 1), "paper": ("full", 3),
        }[case[0]]  # fmt: skip


@pytest.mark.parametrize("scale", ARMS)
def test_arms_differ_in_what_they_compare(scale):
    def slim(arm):
        return dict(next(s for s in walk(ARMS[scale][arm].stages) if s.name == "slim").overrides)

    def differ(one, other):
        a, b = slim(one), slim(other)
        return {key for key in a.keys() | b.keys() if a.get(key, "") != b.get(key, "")}

    for one, others in (("tsm", ("topk", "random", "pool")), ("tsm_mild", ("topk_mild",))):
        for other in others:
            assert differ(one, other) <= {f"model.slimming.{name}" for name in ("keep", "kept", "kind")}
            assert slim(other)["model.slimming.kind"] == other.removesuffix("_mild")
    assert differ("frd", "logits") == {"model.lambda_token"} and differ("labels", "logits") == {"model.lambda_logits"}
    second = differ("other", "labels")
    assert "model.net.distilled" in second and all(k.startswith(("model.other", "model.net.")) for k in second)
    assert scale != "paper" or differ("frd_mild", "tsm_mild") == {"model.lambda_token"}


def test_a_network_is_measured_as_it_was_trained():
    for scale, arms in ARMS.items():
        for name, arm in arms.items():
            *_, last = walk(arm.stages)
            for stage in (one for one in last.upstream() if one.name == "slim"):
                kept = ("model.net.", "model.slimming.", "data.image_size", "data.resize")
                trained, measured = (
                    {k: v for k, v in one.overrides.items() if k.startswith(kept) and not k.endswith("drop_path")}
                    for one in (stage, last)
                )
                assert trained == measured, (scale, name)
                nets = [settings(one, *place(scale))["model"]["net"] for one in (stage, last)]
                for net in nets:
                    net.pop("drop_path", None)
                assert nets[0] == nets[1], (scale, name)


def test_no_picture_of_validation_is_trained_on():
    for file in (CONFIGS / "mini/cifar10").glob("*.yaml"):
        data = yaml.safe_load(file.read_text()).get("data", {})
        if "val" in data:
            assert data["val"]["init_args"]["start"] == 45_000
        if "train" in data:
            assert data["train"]["init_args"]["start"] + data["train"]["init_args"]["count"] <= 45_000


def test_rows_of_the_tables_have_their_arms_and_the_published_networks_their_sizes():
    arms = ARMS["paper"]
    for table in page("sit").tables:
        for row in table.rows:
            assert row.arm in arms, row.label


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
