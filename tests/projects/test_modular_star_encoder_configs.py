"""ModularStarEncoder's configs: understood by their stages, alike where arms are compared, the paper's settings."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from benchmarks.running.recipes import ROOT, configs, load
from common.recipe import Output, walk
from projects.modular_star_encoder.harness.cost import PAPER_EXITS, PAPER_TOKENS
from projects.modular_star_encoder.harness.plan import workload
from projects.modular_star_encoder.harness.rehearsal import SIZES
from projects.modular_star_encoder.harness.speed import REPORTED, speed
from projects.modular_star_encoder.model import TrunkSizes

CONFIGS = ROOT / "projects/modular_star_encoder/configs"
STAGES = {
    (scale, stage.name): stage
    for scale in ("mini", "paper")
    for arm in reversed(load("modular_star_encoder").arms(scale).values())
    for stage in walk(arm.stages)
}


def read(file: str) -> dict:
    """A config on top of what its folder's stages have in common."""
    folder, name = file.split("/")
    base = (
        {}
        if name in ("lexical.yaml", "words.yaml")
        else yaml.safe_load((CONFIGS / folder / "encoder.yaml").read_text())
    )
    own = yaml.safe_load((CONFIGS / file).read_text())
    return {**base, **own, **{k: {**v, **own.get(k, {})} for k, v in base.items() if isinstance(v, dict)}}


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config_and_settings(scale, name, shown_config):
    stage = STAGES[scale, name]
    settings = [f"--{key}={'x' if isinstance(value, Output) else value}" for key, value in stage.overrides.items()]
    files = [word for file in configs(stage, scale) for word in ("--config", str(file))]
    parsed = yaml.safe_load(shown_config(stage.module, stage.run, *files, *settings))
    if name == "evaluate" and scale == "mini":
        assert parsed["model"]["compare"] == dict.fromkeys("124", "x")
        assert parsed["model"]["pretraining"] == "x" and parsed["data"]["validated"]


STDLIB = {
    s.name: s for arm in load("modular_star_encoder").arms_for("mini", "stdlib").values() for s in walk(arm.stages)
}


@pytest.mark.parametrize("name", STDLIB)
def test_the_standard_library_s_configs_are_understood_on_top_of_the_world_s(name, shown_config):
    stage = STDLIB[name]
    settings = [f"--{key}={'x' if isinstance(value, Output) else value}" for key, value in stage.overrides.items()]
    files = [word for file in configs(stage, "mini", "stdlib") for word in ("--config", str(file))]
    shown = shown_config(stage.module, stage.run, *files, *settings)
    parsed = yaml.safe_load(shown)
    assert "world.Programs" not in shown and "world.Repositories" not in shown
    if name != "prepare":
        assert parsed["data"]["max_length"] in (64, 128) and "init_args" in shown
    if "sizes" in parsed.get("model", {}):
        assert parsed["model"]["sizes"]["hidden"] == 64 and parsed["model"]["sizes"]["layers"] == 4


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_all_stages_have_one_trunk_and_one_set_of_exits(scale):
    found = [read(f"{scale}/{name}.yaml") for name in ("pretrain", "finetune", "evaluate")]
    sizes = [{k: v for k, v in config["model"]["sizes"].items() if k != "recompute"} for config in found]
    assert sizes[0] == sizes[1] == sizes[2]
    assert found[0]["model"]["exits"] == found[1]["model"]["exits"] == found[2]["model"]["exits"]
    found += [read("mini/lexical.yaml")] if scale == "mini" else []
    tuned = [{k: v for k, v in c["data"].items() if "instruction" in k or k == "max_length"} for c in found[1:]]
    assert all(inputs == tuned[0] for inputs in tuned)


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_differ_in_exits_weights_or_start_alone(scale):
    arms = load("modular_star_encoder").arms(scale)
    allowed = {"model.exits", "model.weighting", "model.trunk"}
    method = next(s for s in walk(arms["multi_exit"].stages) if s.name == "finetune").overrides
    for name, arm in arms.items():
        if name in ("clone_detection", "lexical", "released"):
            continue
        (stage,) = (s for s in walk(arm.stages[-1].upstream()[:1]) if s.name == "finetune")
        different = {
            k for k in method.keys() | stage.overrides.keys()
            if portable(method.get(k)) != portable(stage.overrides.get(k))
        }  # fmt: skip
        assert different <= allowed and len(different) == (name != "multi_exit")
        if name.startswith("single"):
            (layer,) = stage.overrides["model.exits"]
            assert arm.stages[-1].overrides["model.exits"] == [layer]
            whole = read(f"{scale}/finetune.yaml")["model"]["sizes"]["layers"]
            assert name == f"single_{round(100 * layer / whole)}"


def portable(value: object) -> object:
    """An output as what it is: the same files of the same stage are the same."""
    if isinstance(value, Output):
        settings = sorted((k, str(v)) for k, v in value.stage.overrides.items() if not isinstance(v, Output))
        return value.stage.name, str(settings), value.file
    return value


def test_what_the_recipe_names_is_there():
    recipe = load("modular_star_encoder")
    for named in (recipe.stand_ins, recipe.plan, recipe.speed):
        module, function = named.split(":")
        assert callable(getattr(import_module(module), function))


def test_the_paper_configs_have_the_paper_s_settings():
    pretrain, finetune = read("paper/pretrain.yaml"), read("paper/finetune.yaml")
    sizes = TrunkSizes(**pretrain["model"]["sizes"])
    assert sizes == TrunkSizes(recompute=True) and tuple(pretrain["model"]["exits"]) == PAPER_EXITS
    assert pretrain["trainer"]["max_steps"] == 245_000 and pretrain["model"]["warmup_steps"] == 4000
    assert pretrain["model"]["milestones"] == [120_000, 185_000, 220_000, 230_000, 240_000]
    for config, batch in ((pretrain, 2048), (finetune, 2048)):
        devices = config["trainer"]["devices"] * config["trainer"]["num_nodes"]
        assert config["data"]["batch_size"] * devices == batch and config["data"]["max_length"] == 2048
    assert finetune["trainer"]["max_steps"] == 20_000
    model = finetune["model"]
    assert (model["lr"], model["scale"], model["weighting"]) == (1e-5, 10.0, "depth")
    assert (finetune["data"]["twins"], finetune["data"]["replace"]) == (0.5, 0.3)
    assert list(read("paper/evaluate.yaml")["data"]["sets"]) == ["ruby", "javascript", "go", "python", "java", "php"]


def test_stand_ins_have_the_sizes_of_the_rehearsal():
    for name in ("pretrain", "finetune", "evaluate", "clones", "clones_test"):
        narrow = yaml.safe_load((CONFIGS / "rehearsal/encoder.yaml").read_text())["model"]["sizes"]
        sizes = read(f"paper/{name}.yaml")["model"]["sizes"] | narrow
        sizes.pop("recompute", None)
        assert TrunkSizes(**sizes) == SIZES


@pytest.mark.parametrize("name", ["pretrain", "finetune", "evaluate", "clones", "clones_test"])
def test_a_planned_stage_is_the_paper_s(name):
    stage = STAGES["paper", name]
    config = configuration(stage)
    with torch.device("meta"):
        planned = workload(stage, config)
    own = sum(p.numel() for p in planned.model.parameters())
    heads = 5 * 2 * (1024 * 1024 + 1024)
    if name != "pretrain":
        assert own == REPORTED[36] + (5 * 2 * 1025 if name.startswith("clones") else heads)
    trained = sum(p.numel() for p in planned.model.parameters() if p.requires_grad)
    assert trained == (0 if name in ("evaluate", "clones_test") else own)
    batches = {"pretrain": 4, "finetune": 32, "evaluate": 16, "clones": 8, "clones_test": 64}
    assert planned.batch == batches[name]
    clones = read("paper/clones.yaml")
    assert clones["data"]["batch_size"] * clones["trainer"]["devices"] == 64


def test_a_planned_step_costs_what_its_layers_do():
    stage = STAGES["paper", "pretrain"]
    config = configuration(stage)
    config["model"]["sizes"] |= {"layers": 2, "dropout": 0.0}
    config["model"]["exits"] = [1, 2]
    with torch.device("meta"):
        planned = workload(stage, config)
    materialise(planned, "bf16-mixed")
    step = measure(planned, 1, "bf16-mixed")
    tokens, hidden = 2048, round(2048 * 0.15)
    layers = 2 * (2 * tokens * (27_807_232 - 19_968) + 4 * tokens * tokens * 1024)  # weights without biases and norms
    words = 2 * 2 * hidden * (1028 * 1024 + 1024 * PAPER_TOKENS)
    assert step.forward == pytest.approx(layers + words, rel=0.01)


def test_what_the_speed_bench_measures_has_the_exits_sizes():
    networks = speed().networks
    assert [network.reported["params"] for network in networks] == [REPORTED[i] for i in reversed(PAPER_EXITS)]
    with torch.device("meta"):
        module, (ids,) = networks[-1].build()
    assert module.encoder.exits == (4,) and ids.shape == (1, 256)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
