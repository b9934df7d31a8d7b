"""LLMLingua-2's configs and page: understood by their stages, arms that differ in what they are named for."""

from pathlib import Path

import pytest
import yaml

from benchmarks.judging.forms import Better
from benchmarks.running.recipes import ROOT, load, page
from common.recipe import Stage, walk

CONFIGS = ROOT / "projects/llmlingua2/configs"
CASES = {
    (scale, stage.name, *([arm] if stage.name == "evaluate" and scale == "mini" else [])): stage
    for scale in ("mini", "paper")
    for arm, found in load("llmlingua2").arms(scale).items()
    for stage in walk(found.stages)
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    heeded(CASES[case], case[0])


def test_arms_differ_in_the_compressor_alone():
    arms = load("llmlingua2").arms("mini")
    settings = {name: dict(arm.stages[-1].overrides) for name, arm in arms.items()}
    for found in settings.values():
        assert set(found) <= {
            "model.method", "model.compressor", "model.sentences", "model.segment",
            "model.readers.bert.init_args.folder",
        }  # fmt: skip
    train = {name: stage for name, arm in arms.items() for stage in walk(arm.stages) if stage.name == "train"}
    plain = dict(train["llmlingua2"].overrides)
    differs = {
        name: {k: v for k, v in stage.overrides.items() if k not in plain or plain[k].file != getattr(v, "file", None)}
        for name, stage in train.items()
    }
    assert differs["no_filter"] == {"data.percentile": None} and differs["narrow_window"] == {"data.window": 3}
    assert not differs["causal_classifier"]
    encoders: dict[str, Stage] = {name: stage.overrides["model.encoder"].stage for name, stage in train.items()}
    assert encoders["causal_classifier"].name == "meeting_gpt2" and encoders["no_filter"].name == "meeting_bert"


def test_the_paper_s_settings_are_the_released_scripts():
    read = {name: yaml.safe_load((CONFIGS / f"paper/{name}.yaml").read_text()) for name in ("training", "evaluate")}
    data = read["training"]["data"]
    assert (read["training"]["model"]["lr"], data["batch_size"], data["max_length"]) == (1e-5, 10, 512)
    assert (data["window"], data["percentile"], data["validation"]) == (400, 90, 0.2)
    assert read["training"]["trainer"]["max_epochs"] == 10
    assert read["evaluate"]["model"]["rates"] == [0.33] and read["evaluate"]["model"]["segment"] == 200
    assert read["evaluate"]["model"]["forced"] == ["\n", "?", "!", "."]


def test_the_page_has_the_dossier_s_claims_and_every_arm():
    found = page("llmlingua2")
    assert {f"C{k}" for k in range(1, 5)} <= {claim.id.split("-")[0] for claim in found.claims}
    text = (ROOT / "benchmarks/papers/llmlingua2.yaml").read_text()
    for scale in ("mini", "paper"):
        for arm in load("llmlingua2").arms(scale):
            named = any(f"{key}: {arm}{end}" in text for key in ("arm", "than", "of", "to") for end in (",", "}"))
            assert named or arm in ("llmlingua_budget", "open_teacher", "released_small", "random"), arm
    for claim in found.claims:
        assert not isinstance(claim.test, Better) or claim.test.smallest, claim.id


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
