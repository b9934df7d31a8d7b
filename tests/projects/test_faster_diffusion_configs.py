"""Faster Diffusion's configs: understood by their stages, arms that differ in what they say alone, rows with arms."""

import pytest

from benchmarks.running import recipes
from benchmarks.running.recipes import load
from common.recipe import Output, Stage, walk
from projects.faster_diffusion.keys import key_steps

KINDS = ("full", "faster", "uniform_25", "decoder", "ddim_keys", "dpmpp_20_faster", "changes", "cost")


def stages(scale: str) -> dict[str, Stage]:
    arms = load("faster_diffusion").arms(scale)
    return {f"{scale}-{arm}": arms[arm].stages[-1] for arm in KINDS if arm in arms}


CASES = stages("mini") | stages("paper")


@pytest.mark.parametrize("case", CASES)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    heeded(CASES[case], case.split("-")[0])


def test_arms_share_model_noise_and_amounts():
    """They name a sampler, and nothing of the data; all but the full sampler are compared with it."""
    arms = load("faster_diffusion").arms("mini")
    for name, arm in arms.items():
        [stage] = arm.stages
        assert not [key for key in stage.overrides if key.startswith(("data.", "trainer."))]
        if stage.name == "sample":
            assert isinstance(stage.overrides["model.reference"], Output), name
    assert [name for name, arm in arms.items() if arm.method] == ["faster"]
    assert len({stage.name for stage in walk(arms["faster"].stages)}) == 3


def test_sets_of_the_same_size_are_compared():
    arms = load("faster_diffusion").arms("paper")
    for name in ("faster", "encoder", "uniform_9", "nonuniform_1", "nonuniform_2", "nonuniform_3", "decoder", "both"):
        assert len(key_steps(arms[name].stages[0].overrides["model.reuse.keys"], 50)) == 9, name
    assert len(key_steps(arms["uniform_25"].stages[0].overrides["model.reuse.keys"], 50)) == 25
    assert len(key_steps(arms["uniform_5"].stages[0].overrides["model.reuse.keys"], 50)) == 5


def test_claims_are_the_dossiers_and_rows_name_known_arms():
    page, arms = recipes.page("faster_diffusion"), load("faster_diffusion").arms("paper")
    assert list(dict.fromkeys(claim.id.split("-")[0] for claim in page.claims)) == [f"C{k}" for k in range(1, 8)]
    assert {row.arm for table in page.tables for row in table.rows if row.arm} <= set(arms)
