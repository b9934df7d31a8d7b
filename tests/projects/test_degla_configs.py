"""DeGLA's configs: understood by their stages; arms that differ in what they say; a page that fits."""

from pathlib import Path

import pytest

from benchmarks.running.recipes import ROOT, load, page
from common.recipe import Output, walk
from projects.degla.recipe import FINETUNED

CONFIGS = ROOT / "projects/degla/configs"
ARMS = {scale: load("degla").arms(scale) for scale in ("mini", "paper", "rehearsal")}
CASES = {
    (scale, arm): stage
    for scale in ("mini", "paper")
    for arm, what in ARMS[scale].items()
    for stage in walk(what.stages)
    if stage.name == "finetune"
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_finetuning_understands_its_config_and_settings(case, heeded):
    scale, arm = case
    parsed = heeded(CASES[case], scale)
    weights = parsed["model"]["weights"]
    if arm == "degla" and scale == "paper":
        assert weights == {"igc": 0.1, "tgc": 0.1, "distillation": 0.005, "ranking": 0.0, "intra_modal": 0.0}
        assert parsed["data"]["batch_size"] * parsed["trainer"]["devices"] == 256
    assert (weights["distillation"] == 0) == (arm in ("base", "ce_clip", "no_distill"))
    assert parsed["data"]["crop"] == (scale == "paper")


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_an_evaluation_understands_its_config_and_its_means(scale, heeded):
    stage = ARMS[scale]["degla"].stages[-1]
    data = heeded(stage, scale)
    known = [*data["data"]["benches"], *data["data"]["sets"]]
    known += [f"{name}_share" for name in data["data"]["benches"]]
    for name, parts in data["model"]["means"].items():
        assert set(parts) <= set(known) and len(set(parts)) == len(parts)
        known.append(name)
    if scale == "paper":
        assert len(data["data"]["benches"]) == 7 + 11 + 4 and len(data["data"]["sets"]) == 11 + 3
        assert len(data["model"]["means"]["valse"]) == 11
        for table in page("degla").tables:
            assert {column.metric for column in table.columns} <= set(known)


def test_nothing_of_the_test_is_trained_on(heeded):
    trained = heeded(CASES["mini", "degla"], "mini")["data"]["train"]["init_args"]
    tested = heeded(ARMS["mini"]["degla"].stages[-1], "mini")["data"]
    assert trained["split"] == "train" and trained["seed"] == 1  # the foundation's is 0
    for name, source in {**tested["benches"], **tested["sets"]}.items():
        assert source["init_args"]["split"] == ("val" if name.endswith("_val") else "test")
        for what in ("shapes", "colours"):
            assert source["init_args"][what] == (trained[what] if name.endswith("_seen") else None)


def test_arms_differ_in_what_they_compare():
    for scale, arms in ARMS.items():
        assert [name for name, arm in arms.items() if arm.method] == ["degla"]
        for name, arm in arms.items():
            if name in FINETUNED:
                (trained,) = (s for s in walk(arm.stages) if s.name == "finetune")
                given = {k: v for k, v in trained.overrides.items() if not isinstance(v, Output)}
                assert given == FINETUNED[name][0], (scale, name)
    for claim in page("degla").claims:
        assert claim.scales or claim.untested, claim.id


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
