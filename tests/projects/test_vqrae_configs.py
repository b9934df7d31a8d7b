"""VQRAE's configs: each is understood by its stage, the arms have one budget, and Table 7 is what it says."""

from pathlib import Path

import pytest
import yaml

from benchmarks.running.recipes import ROOT, load
from common.recipe import Output, Stage, walk
from projects.vqrae.recipe import DIMS, SIZES

CONFIGS = ROOT / "projects/vqrae/configs"
STAGES = {
    (scale, stage.name): stage
    for scale in ("mini", "paper")
    for arm in load("vqrae").arms(scale).values()
    for stage in walk(arm.stages)
    if stage.module.startswith("projects.")
}


def merged(before: dict, after: dict) -> dict:
    """Settings on top of others, as the command line reads them: another class brings its own arguments."""
    if "class_path" in after and before.get("class_path") != after["class_path"]:
        return after
    both = {
        key: merged(before[key], after[key]) for key in before.keys() & after.keys() if isinstance(after[key], dict)
    }
    return before | after | both


def read(scale: str, name: str) -> dict:
    """A stage's settings from its files."""
    found: dict = {}
    for file in STAGES[scale, name].config(scale):
        if (ROOT / file).exists():
            found = merged(found, yaml.safe_load((ROOT / file).read_text()))
    return found


def stages(arm: str, scale: str) -> list[Stage]:
    return list(walk(load("vqrae").arms(scale)[arm].stages))


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config(scale, name, monkeypatch, shown_config):
    stage = STAGES[scale, name]
    given = {k: "some.file" if isinstance(v, Output) else v for k, v in stage.overrides.items()}
    settings = [f"--{key}={'null' if value is None else value}" for key, value in given.items()]
    files = [f"--config={ROOT / file}" for file in stage.config(scale) if (ROOT / file).exists()]
    monkeypatch.setenv("DATA_ROOT", "data")
    parsed = yaml.safe_load(shown_config(stage.module, stage.run, *files, *settings))
    assert parsed["model"]["codebook"]["beta"] == 0.25
    if stage.module == "projects.vqrae.train":
        assert parsed["model"]["ema_decay"] == 0.999


def sweep_stages(arm: str, scale: str) -> list[Stage]:
    """The training of one of the codebook's arms, if the scale has that arm."""
    if arm not in load("vqrae").arms(scale):
        return []
    return [stage for stage in stages(arm, scale) if stage.name == "stage1"]


def step_batch(config: dict) -> int:
    """Samples of a device's step."""
    return config["data"]["batch_size"] * config["trainer"].get("accumulate_grad_batches", 1)


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_have_one_budget(scale):
    """The same data, batch, nets and losses; as many steps in both stages as in one."""
    named = {name: read(scale, name) for name in ("stage1", "stage2", "one_stage", "rae")}
    for config in named.values():
        for part in ("train", "val", "image_size"):
            assert config["data"][part] == named["stage1"]["data"][part]
        assert step_batch(config) == step_batch(named["stage1"])
        assert config["model"]["perceptual"] == named["stage1"]["model"]["perceptual"]
        assert config["model"]["encoder"] == named["stage1"]["model"]["encoder"]
    steps = {name: config["trainer"]["max_steps"] for name, config in named.items()}
    assert steps["stage1"] + steps["stage2"] == steps["one_stage"] == steps["rae"]
    alone = [stage for arm in ("codebook", *DIMS, *SIZES) for stage in sweep_stages(arm, scale)]
    assert alone and all(stage.overrides["trainer.max_steps"] == steps["rae"] for stage in alone)
    assert named["stage2"]["model"]["encoder_lr"] == named["one_stage"]["model"]["encoder_lr"]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_differ_in_what_their_names_say(scale):
    def model(arm: str) -> dict:
        fit = next(stage for stage in reversed(stages(arm, scale)) if stage.run == "fit")
        own = {k: v for k, v in fit.overrides.items() if not isinstance(v, Output) and k.startswith("model.")}
        config = read(scale, fit.name)["model"]
        flat = {"model.train_encoder": config.get("train_encoder", False)}
        return flat | {"model.distill_weight": config.get("distill_weight", 0.0), "stage": fit.name} | own

    expected = {
        "two_stages_distilled": (True, 1.0, "stage2"),
        "two_stages": (True, 0.0, "stage2"),
        "one_stage_distilled": (True, 1.0, "one_stage"),
        "one_stage": (True, 0.0, "one_stage"),
        "frozen": (False, 0.0, "stage2"),
        "rae": (False, 0.0, "rae"),
        "vqrae": (True, 1.0, "full_stage2"),
    }
    for arm in expected.keys() & load("vqrae").arms(scale).keys():
        found, values = model(arm), expected[arm]
        assert (found["model.train_encoder"], found["model.distill_weight"], found["stage"]) == values, arm
    assert read(scale, "rae")["model"]["codebook"]["kind"] == "none"


def test_a_tokenizer_is_measured_with_the_codebook_it_was_trained_with():
    for scale in ("mini", "paper", "rehearsal"):
        for arm in load("vqrae").arms(scale).values():
            *_, fit, last = [stage for stage in walk(arm.stages) if not stage.module.startswith("common.")]
            own = {k: v for k, v in fit.overrides.items() if k.startswith("model.codebook.")}
            if last.name == "evaluate":
                trained = read("paper" if scale == "rehearsal" else scale, fit.name)["model"]["codebook"]
                measured = read("paper" if scale == "rehearsal" else scale, last.name)["model"]["codebook"]
                for config, stage in ((trained, fit), (measured, last)):
                    for key, value in stage.overrides.items():
                        if key.startswith("model.codebook."):
                            config[key.rsplit(".", 1)[1]] = value
                assert trained == measured, (scale, own)


def test_sweeps_have_the_paper_s_proportions():
    width, codes = read("mini", "stage1")["model"]["encoder"]["sizes"]["hidden_size"], 512
    for mini, paper in DIMS.values():
        assert mini in (None, round(width * paper / 1152))
    base = read("mini", "stage1")["model"]["codebook"]
    assert base == {"size": codes, "dim": round(width * 1536 / 1152)}
    for mini, paper in SIZES.values():
        assert mini is None or mini / codes == paper / 16384


def test_every_stage_has_the_same_tokenizer():
    """What is trained, measured, and drawn with is described in several files."""
    for scale in ("mini", "paper"):
        parts = {}
        for of, name in STAGES:
            if of == scale and not (scale == "paper" and name in ("prior", "sample")):  # InternViT's there
                model = read(scale, name)["model"]
                sizes = {key: model["codebook"][key] for key in ("size", "dim")}
                parts[name] = (model["encoder"], sizes, model.get("perceptual"))
        first = parts["stage1"]
        for name, (encoder, sizes, nets) in parts.items():
            assert (encoder, sizes) == first[:2], name
            assert nets in (first[2], None), name


def test_larger_pictures_are_compared_at_the_size_of_table_2():
    assert read("paper", "evaluate")["model"]["measured_size"] == 256
    for arm, size in (("internvit", 448), ("siglip2_512", 512)):
        last = stages(arm, "paper")[-1]
        assert last.overrides["data.image_size"] == size and "model.measured_size" not in last.overrides


def test_table_7():
    first, second = read("paper", "full_stage1"), read("paper", "full_stage2")
    for config in (first, second):
        model, trainer = config["model"], config["trainer"]
        assert model["codebook"] == {"size": 16384, "dim": 1536}
        assert (model["weight_decay"], model["warmup_steps"], model["clip"]) == (1e-4, 2000, 1.0)
        assert config["data"]["batch_size"] * trainer["devices"] * trainer["accumulate_grad_batches"] == 1024
        assert trainer["precision"] == "bf16-mixed"
    assert (first["model"]["lr"], first["model"]["end_lr"], first["trainer"]["max_steps"]) == (4e-4, 1e-4, 100_000)
    assert "train_encoder" not in first["model"] and "adversary" not in first["model"]
    model = second["model"]
    assert (model["lr"], model["end_lr"], model["encoder_lr"]) == (1e-4, 1e-5, 1e-5)
    assert (model["distill_weight"], second["trainer"]["max_steps"]) == (1.0, 70_000)
    adversary = model["adversary"]
    assert (adversary["start"], adversary["weight"], adversary["lr"]) == (50_000, 0.1, 4e-5)


def test_variants_of_table_7():
    for arm, batch, steps in (("siglip2_512", 1024, (None, None)), ("internvit", 768, (45_000, 60_000))):
        fits = [stage for stage in stages(arm, "paper") if stage.run == "fit"]
        for stage, expected in zip(fits, steps, strict=True):
            config, given = read("paper", stage.name), stage.overrides
            size = given["data.batch_size"] * config["trainer"]["devices"] * given["trainer.accumulate_grad_batches"]
            assert size == batch
            assert given.get("trainer.max_steps") == expected
    assert fits[1].overrides["model.adversary.start"] == 30_000


def test_table_9():
    config = read("paper", "prior")
    model, trainer = config["model"], config["trainer"]
    assert (model["lr"], model["warmup_steps"], model["eps"]) == (1e-4, 4000, 1e-15)
    assert config["data"]["batch_size"] * trainer["devices"] * trainer["accumulate_grad_batches"] == 512
    tokens = (config["data"]["image_size"] // 14) ** 2
    assert model["language_model"]["text_length"] + 1 + tokens == 1536
    assert config["data"]["augment"] is False


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    text = file.read_text()
    assert text.startswith("# ") and "TODO" not in text
