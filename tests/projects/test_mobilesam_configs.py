"""MobileSAM's configs: each is understood by its stage, and the arms that are compared have the same budget."""

from pathlib import Path

import pytest
import yaml

from benchmarks.running.recipes import ROOT, configs, load, settings
from common.models.sam import SamConfig
from common.models.tiny_vit import TinyViTConfig
from common.recipe import walk

CONFIGS = ROOT / "projects/mobilesam/configs"
TRAINED = ("distill", "semi_coupled", "coupled")
FINETUNED = ("decoder_finetuning", "joint_finetuning")
BUDGETS = ("distill_small", "distill_middle", "distill")  # Table 4
STAGES = {
    (scale, stage.name): stage for scale in ("mini", "paper") for arm in load("mobilesam").arms(scale).values()
    for stage in walk(arm.stages) if stage.module.startswith("projects.")
}  # fmt: skip


def read(scale: str, name: str, data: str = "") -> dict:
    """A stage's config, its base and its own file merged as the command line merges them."""
    return settings(STAGES[scale, name], scale, data)


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config(scale, name, shown_config):
    stage = STAGES[scale, name]
    files = [word for file in configs(stage, scale) for word in ("--config", str(file))]
    # what the recipe sets; without it a required argument is missing
    upstream = [] if scale == "paper" else ["--model.teacher_weights=sam.safetensors"]
    parsed = yaml.safe_load(shown_config(stage.module, stage.run, *files, *upstream))
    assert parsed["data"]["image_size"] == read(scale, name)["data"]["image_size"]
    if scale == "paper":
        assert SamConfig(**tuples(parsed["model"]["teacher"])) == SamConfig()  # ViT-H
        if "student" in parsed["model"]:
            assert TinyViTConfig(**tuples(parsed["model"]["student"])) == TinyViTConfig()


def tuples(sizes: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_trained_arms_have_the_same_images_steps_and_batch(scale):
    budgets = [budget(read(scale, name)) for name in TRAINED]
    assert budgets[0] == budgets[1] == budgets[2]
    for finetuning in (budget(read(scale, name)) for name in FINETUNED):
        assert {**finetuning, "steps": 0} == {**budgets[0], "steps": 0}
        assert finetuning["steps"] <= budgets[0]["steps"] / 3  # a short one, on top


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_budgets_have_table_4s_proportions(scale):
    small, middle, full = (budget(read(scale, name)) for name in BUDGETS)
    assert small["images"] == middle["images"] == full["images"]
    assert (small["batch"], middle["batch"], full["batch"]) == (4, 8, 8)
    assert small["steps"] == middle["steps"] == full["steps"] / 2  # 2, 4 and 8 epochs
    assert len({read(scale, name)["model"].get("lr") for name in BUDGETS}) == 1


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_embeddings_are_those_of_the_training_images(scale):
    for split in ("train", "val"):
        assert source(read(scale, "embed"), split) == source(read(scale, "distill"), split)
    if scale == "mini":
        for split in ("train", "val"):
            assert source(read(scale, "embed", "coco"), split) == source(read(scale, "distill", "coco"), split)


def budget(config: dict) -> dict:
    return {
        "images": source(config),
        "steps": config["trainer"]["max_steps"],
        "batch": config["data"]["batch_size"],
        "size": config["data"]["image_size"],
        "student": config["model"]["student"],
        "precision": config["trainer"].get("precision"),
    }


def source(config: dict, split: str = "train") -> dict:
    """Which images a config has in a split, whether their masks are decoded or not."""
    train = config["data"][split]
    init = {name: value for name, value in train["init_args"].items() if name != "masks"}
    return {"class": train["class_path"], **init}


def test_the_paper_s_budget():
    config = read("paper", "distill")
    images, batch, steps = 100_000, config["data"]["batch_size"], config["trainer"]["max_steps"]
    assert config["data"]["train"]["init_args"]["limit"] == images
    assert batch == 8 and steps == 100_000 and steps * batch == 8 * images  # 8 epochs (Table 4)
    evaluation = read("paper", "evaluate")
    test, val = evaluation["data"]["test"]["init_args"], config["data"]["val"]["init_args"]
    assert test["limit"] * evaluation["model"]["instances"] == 200  # samples (Table 2)
    assert val["root"] != config["data"]["train"]["init_args"]["root"]
    assert val["root"] == test["root"] and val["offset"] >= test["limit"]  # no image is in both
    assert evaluation["model"]["distances"] == [100, 200, 300, 400, 500]  # Table 7


def test_the_budget_of_table_2():
    config = read("paper", "distill_vit_b")
    assert config["data"]["first"] == 11_000 and config["data"]["batch_size"] == 4
    assert config["trainer"]["max_steps"] == 55_000
    vit = SamConfig(**tuples(config["model"]["vit"]))
    assert vit == SamConfig.named("vit_b") == SamConfig(**tuples(read("paper", "evaluate_vit_b")["model"]["vit"]))


@pytest.mark.parametrize("names", [("finetune",), ("finetune", "masks"), ("distill",)], ids="-".join)
def test_configs_for_ones_own_data_are_understood(names, shown_config):
    files = [word for name in names for word in ("--config", str(CONFIGS / "own" / f"{name}.yaml"))]
    words = (*files, "--model.student_weights=mobile_sam.pt")
    parsed = yaml.safe_load(shown_config("projects.mobilesam.distill", "fit", *words))
    assert SamConfig(**tuples(parsed["model"]["teacher"])) == SamConfig()
    assert TinyViTConfig(**tuples(parsed["model"]["student"])) == TinyViTConfig()
    own = "projects.mobilesam.data.MaskFolder"
    kinds = {"finetune": "common.data.readers.coco_instances.CocoInstances", "masks": own, "distill": own}
    assert parsed["data"]["train"]["class_path"] == kinds[names[-1]]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
