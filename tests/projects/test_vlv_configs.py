"""VLV's configs: understood by their stages, arms with the same budget, the paper's settings."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.judging.forms import Better, Measure
from benchmarks.running import recipes
from benchmarks.running.recipes import ROOT, load
from common.recipe import Stage, walk
from projects.vlv.recipe import EQUAL_WORK

CONFIGS = ROOT / "projects/vlv/configs"


def stages(scale: str) -> dict[str, Stage]:
    return {
        f"{scale}-{arm}-{stage.name}": stage
        for arm, found in load("vlv").arms(scale).items()
        for stage in walk(found.stages)
        if arm in ("vlv", "no_stage1_trainable", "queries_few", "images_few", "captions", "decoder_small", "released")
    }


CASES = stages("mini") | stages("paper")


def read(scale: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / scale / f"{name}.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    heeded(CASES[case], case.split("-")[0])


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("reconstruct", "model.queries=0"),
        ("describe", "model.max_tokens=-1"),
        ("describe", "data.pairs=-5"),
        ("redraw", "model.steps=0"),
        ("evaluate", "model.beams=0"),
    ],
)
def test_amounts_are_positive(name, setting, monkeypatch, capsys):
    module = f"projects.vlv.{name}"
    run = "test" if name in ("redraw", "evaluate") else "fit"
    configs = [word for file in ("encoder", name) for word in ("--config", str(CONFIGS / f"mini/{file}.yaml"))]
    monkeypatch.setattr(sys, "argv", [module, run, *configs, f"--{setting}", "--print_config"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 2
    assert setting.split("=")[0].split(".")[1] in capsys.readouterr().err


def test_claims_begin_with_the_dossier_of_claims_and_every_arm_stands_in_a_row_or_a_claim():
    page = recipes.page("vlv")
    assert list(dict.fromkeys(claim.id.split("-")[0] for claim in page.claims)) == [f"C{k}" for k in range(1, 9)]
    assert page.claims[0].id == "C1-trainable"  # the strictest control leads
    rows = {row.arm for table in page.tables for row in table.rows}
    judged = {
        measure.arm
        for claim in page.claims
        for test in (claim.test, *claim.premise)
        for measure in (vars(test).values() if test else ())
        if isinstance(measure, Measure)
    }
    assert set(load("vlv").arms("mini")) <= judged
    assert set(load("vlv").arms("paper")) <= judged | rows
    for claim in page.claims:  # what is claimed to be larger says how much larger matters
        assert not isinstance(claim.test, Better) or claim.test.smallest, claim.id


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_all_stages_start_from_the_same_models(scale):
    stages = [
        s for arm in load("vlv").arms(scale).values() for s in walk(arm.stages) if s.module.startswith("projects")
    ]
    bases = {stage.name: stage.base for stage in stages}
    assert bases == dict.fromkeys(("reconstruct", "describe", "redraw", "evaluate"), "encoder")
    shared = read(scale, "encoder")["model"]
    for name in bases:
        assert not set(read(scale, name).get("model", {})) & set(shared)


def test_arms_differ_in_what_they_are_named_after():
    """Stage 2 has the same pictures in every arm, and starts from the same stage 1, or from none."""
    arms = load("vlv").arms("mini")
    described = {
        name: next(s for s in walk(arm.stages) if s.name == "describe")
        for name, arm in arms.items()
        if any(s.name == "describe" for s in walk(arm.stages))
    }
    allowed = {"model.lr", "model.unfrozen", "model.encoder_weights", "model.language_model"}
    for name, stage in described.items():
        changed = {k for k, v in stage.overrides.items() if k != "model.text_to_image"}
        more = set(EQUAL_WORK) if name == "no_stage1_equal_work" else set()
        assert changed <= allowed | more, name
    starts = {name: "model.encoder_weights" in stage.overrides for name, stage in described.items()}
    assert starts == {name: not name.startswith("no_stage1") for name in described}
    rates = {name: stage.overrides["model.lr"] for name, stage in described.items()}
    assert rates["vlv"] == rates["decoder_small"] == rates["no_stage1_trainable"] == rates["no_stage1_equal_work"]
    assert rates["frozen"] == rates["no_stage1"] == rates["frozen_small"]
    unfrozen = {name: stage.overrides["model.unfrozen"] for name, stage in described.items()}
    frozen = {"frozen", "frozen_small", "no_stage1"}
    assert unfrozen == {
        name: "adapter" if name == "psi_only" else "language_model" if name in frozen else "encoder"
        for name in described
    }
    words = {name: stage.overrides["model.language_model"].stage.overrides for name, stage in described.items()}
    assert {name for name, sizes in words.items() if sizes} == {"frozen_small", "decoder_small"}


def test_pictures_of_coco_are_those_of_the_tables():
    """Table 4 (left) is on COCO 2017, all others on 30,000 pictures of 2014."""
    arms = load("vlv").arms("paper")
    for name, arm in arms.items():
        last = arm.stages[-1]
        folder = last.overrides.get(
            "data.test.init_args.images", read("paper", last.name)["data"]["test"]["init_args"]["images"]
        )
        assert folder.rsplit("/", 1)[1] == ("val2017" if name.startswith("queries") else "val2014"), name
        if name.startswith("queries"):
            assert last.overrides["data.test.init_args.captions"].endswith("captions_val2017.json")


def test_no_caption_of_the_longest_kind_is_cut_by_what_draws_it():
    config = read("paper", "evaluate")["model"]
    assert config["drawer_tokens"] == 512 > config["max_tokens"]


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
