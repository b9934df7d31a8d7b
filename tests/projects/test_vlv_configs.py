"""VLV's configs: understood by their stages, arms with the same budget, the paper's settings."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.judging.tables import load_paper
from benchmarks.running.recipes import ROOT, load
from common.recipe import SCALES, Output, Stage, walk

CONFIGS = ROOT / "projects/vlv/configs"


def stages(scale: str) -> dict[str, Stage]:
    return {
        f"{scale}-{arm}-{stage.name}": stage
        for arm, found in load("vlv").arms(scale).items()
        for stage in walk(found.stages)
        if arm in ("vlv", "no_stage1", "queries_few", "images_few", "captions", "decoder_small")
    }


CASES = stages("mini") | stages("paper")


def read(scale: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / scale / f"{name}.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_stage_understands_its_config_and_settings(case, monkeypatch, capsys):
    stage = CASES[case]
    files = [ROOT / file for file in stage.config(case.split("-")[0])]
    configs = [word for file in files if file.exists() for word in ("--config", str(file))]
    settings = [f"--{key}={'x' if isinstance(value, Output) else value}" for key, value in stage.overrides.items()]
    monkeypatch.setattr(sys, "argv", [stage.module, stage.run, *configs, *settings, "--print_config"])
    monkeypatch.delitem(sys.modules, stage.module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(stage.module, run_name="__main__")
    assert not ended.value.code, capsys.readouterr().err
    parsed = yaml.safe_load(capsys.readouterr().out)
    for key, value in stage.overrides.items():
        found = parsed
        for word in key.split("."):
            found = found[word]
        assert found == ("x" if isinstance(value, Output) else value)


@pytest.mark.parametrize("scale", SCALES)
def test_claims_and_tables_name_arms_of_every_scale(scale):
    page = load_paper("vlv", list(load("vlv").arms(scale)))
    assert {claim.id.split("-")[0] for claim in page.claims} == {f"C{k}" for k in range(1, 9)}


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_all_stages_start_from_the_same_models(scale):
    names = ("reconstruct", "describe", "redraw", "evaluate")
    configs = [read(scale, name)["model"] for name in names]
    for key in ("florence", "queries", "text_to_image"):
        assert all(config.get(key) == configs[0].get(key) for config in configs)


def test_arms_differ_in_what_they_are_named_after():
    """Stage 2 has the same pictures and steps in every arm, and starts from the same stage 1, or from none."""
    arms = load("vlv").arms("mini")
    described = {
        name: next(s for s in walk(arm.stages) if s.name == "describe")
        for name, arm in arms.items()
        if any(s.name == "describe" for s in walk(arm.stages))
    }
    allowed = {"model.lr", "model.unfrozen", "model.encoder_weights", "model.language_model", "data.pairs"}
    for stage in described.values():
        changed = {k for k, v in stage.overrides.items() if k != "model.text_to_image"}
        assert changed <= allowed
    starts = {name: "model.encoder_weights" in stage.overrides for name, stage in described.items()}
    assert starts == {name: not name.startswith("no_stage1") for name in described}
    rates = {name: stage.overrides["model.lr"] for name, stage in described.items()}
    assert rates["vlv"] == rates["no_stage1_trainable"] and rates["frozen"] == rates["no_stage1"]
    unfrozen = {name: described[name].overrides["model.unfrozen"] for name in ("psi_only", "frozen", "vlv")}
    assert unfrozen == {"psi_only": "adapter", "frozen": "language_model", "vlv": "encoder"}


def test_the_paper_s_budget():
    first, second = read("paper", "reconstruct"), read("paper", "describe")
    assert first["trainer"]["max_steps"] == 200_000
    assert (
        first["data"]["batch_size"] * first["trainer"]["devices"] * first["trainer"]["accumulate_grad_batches"] == 512
    )
    assert first["trainer"]["precision"] == "32-true" and first["trainer"]["gradient_clip_val"] == 1.0
    assert (first["model"]["lr"], first["model"]["betas"]) == (5e-5, [0.9, 0.99])
    assert second["trainer"]["max_steps"] == 100_000
    assert (
        second["data"]["batch_size"] * second["trainer"]["devices"] * second["trainer"]["accumulate_grad_batches"] == 64
    )
    assert second["model"]["lr"] == 1e-5 and second["model"]["max_tokens"] == 300
    assert read("paper", "evaluate")["model"]["guidance"] == [1.0, 2.0, 3.0, 4.0]
    assert read("paper", "evaluate")["data"]["test"]["init_args"]["limit"] == 30_000


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
