"""MobileSAM's configs: each is understood by its stage, and the arms that are compared have the same budget."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.running.recipes import ROOT, load
from common.models.sam import SamConfig
from common.recipe import walk
from projects.mobilesam.tiny_vit import TinyViTConfig

CONFIGS = ROOT / "projects/mobilesam/configs"
TRAINED = ("distill", "semi_coupled", "coupled")
STAGES = {
    (scale, stage.name): stage for scale in ("mini", "paper") for arm in load("mobilesam").arms(scale).values()
    for stage in walk(arm.stages) if stage.module.startswith("projects.")
}  # fmt: skip


def read(scale: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / scale / f"{name}.yaml").read_text())


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config(scale, name, monkeypatch, capsys):
    stage = STAGES[scale, name]
    file = str(CONFIGS / scale / f"{name}.yaml")
    # what the recipe sets; without it a required argument is missing
    upstream = [] if scale == "paper" else ["--model.teacher_weights=sam.safetensors"]
    monkeypatch.setattr(sys, "argv", [stage.module, stage.run, "--config", file, *upstream, "--print_config"])
    monkeypatch.delitem(sys.modules, stage.module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(stage.module, run_name="__main__")
    assert not ended.value.code
    parsed = yaml.safe_load(capsys.readouterr().out)
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
    finetuning = budget(read(scale, "decoder_finetuning"))
    assert {**finetuning, "steps": 0} == {**budgets[0], "steps": 0}
    assert finetuning["steps"] <= budgets[0]["steps"] / 3  # a short one, on top


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_embeddings_are_those_of_the_training_images(scale):
    assert source(read(scale, "embed")) == source(read(scale, "distill"))


def budget(config: dict) -> dict:
    return {
        "images": source(config),
        "steps": config["trainer"]["max_steps"],
        "batch": config["data"]["batch_size"],
        "size": config["data"]["image_size"],
        "student": config["model"]["student"],
        "precision": config["trainer"].get("precision"),
    }


def source(config: dict) -> dict:
    """Which images a config trains on, whether their masks are decoded or not."""
    train = config["data"]["train"]
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


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
