"""What was counted before: configs that note what is read of them, records that hold, every stage in its GPU."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.planning import meter, records, stages
from benchmarks.planning.gpus import gpu
from benchmarks.planning.reading import Noted, agrees
from benchmarks.planning.records import Costs, Counted
from benchmarks.planning.stages import card_of, configuration, hook, hook_name, plan_stage, precision_of
from benchmarks.running import recipes
from tests.benchmarks.test_plan import COST

PAPERS = recipes.names()
SMALL = ("trans_encoder", "bi")  # a stage that takes a second or two to count


def read_of(config, use):
    read = {}
    use(Noted(config, read))
    return read


CONFIG = {"model": {"width": 3, "lr": 0.1, "head": {"kind": "mlp"}, "betas": [1, 2]}, "data": {"batch_size": 4}}


def test_what_is_read_is_noted_and_nothing_else():
    read = read_of(CONFIG, lambda config: (config["model"]["width"], config["model"].get("dropout", 0)))
    assert read == {"model": "(nested)", "model.width": 3, "model.dropout": "(absent)"}
    assert agrees(CONFIG, read)
    assert agrees({"model": {"width": 3, "lr": 7, "new": 1}}, read)
    assert not agrees({"model": {"width": 4}}, read)
    assert not agrees({"model": {"width": 3, "dropout": 0}}, read)
    assert not agrees({"model": 3}, read) and not agrees({}, read)


@pytest.mark.parametrize(
    "use",
    [
        lambda config: dict(**config["model"]["head"]),
        lambda config: list(config["model"]["head"].values()),
        lambda config: {**config["model"]["head"]},
        lambda config: config["model"]["head"] and config["model"]["head"]["kind"],
    ],
)
def test_a_group_that_is_taken_whole_may_not_get_another_member(use):
    read = read_of(CONFIG, use)
    assert agrees(CONFIG, read)
    assert not agrees({"model": {**CONFIG["model"], "head": {"kind": "mlp", "layers": 2}}}, read)
    assert not agrees({"model": {**CONFIG["model"], "head": {"kind": "linear"}}}, read)


def test_a_name_that_is_looked_for_is_noted_too():
    read = read_of(CONFIG, lambda config: "adversary" in config["model"])
    assert agrees(CONFIG, read) and not agrees({"model": {"adversary": None}}, read)
    assert agrees({"model": {"betas": [1, 2]}}, read_of(CONFIG, lambda config: config["model"]["betas"]))
    assert not agrees({"model": {"betas": [1, 3]}}, read_of(CONFIG, lambda config: config["model"]["betas"]))


NOW = records.Record("code", {"torch": "2.11"})
COUNTED = Counted("train", "fit", "32-true", {"model": "(nested)", "model.width": 3}, COST)


def test_a_record_comes_back_as_it_was(tmp_path):
    file = tmp_path / "plan.json"
    records.write(file, replace(NOW, stages=(COUNTED, COUNTED)))
    assert records.read(file) == replace(NOW, stages=(COUNTED, COUNTED))
    assert len(file.read_text().splitlines()) == 9  # a line per stage


def test_costs_of_other_code_or_libraries_do_not_count(tmp_path):
    file = tmp_path / "plan.json"
    for other in (replace(NOW, code="other"), replace(NOW, versions={"torch": "2.12"})):
        records.write(file, replace(other, stages=(COUNTED,)))
        known = Costs(NOW)
        known.take(file)
        assert known.known == []
    records.write(file, replace(NOW, stages=(COUNTED,)))
    known.take(file)
    assert known.find("train", "fit", "32-true", CONFIG) == COUNTED
    assert known.find("train", "fit", "bf16-mixed", CONFIG) is None
    assert known.find("other", "fit", "32-true", CONFIG) is None
    assert known.find("train", "fit", "32-true", {"model": {"width": 4}}) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"code": "code"}', '{"code": 1, "versions": {}, "stages": []}'])
def test_a_damaged_record_is_none(tmp_path, content):
    file = tmp_path / "runs" / "toy" / "plan.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    known = Costs(NOW)
    known.take(file)
    assert known.known == []
    known.add(COUNTED)
    known.keep(file)
    assert records.read(file) == replace(NOW, stages=(COUNTED,))


def test_what_a_user_counts_is_kept_beside_what_was_there(tmp_path):
    file = tmp_path / "toy" / "plan.json"
    for width in (3, 4, 3):
        known = Costs(NOW)
        known.add(replace(COUNTED, read={"model.width": width}))
        known.keep(file)
    kept = records.read(file)
    assert kept is not None and [one.read["model.width"] for one in kept.stages] == [4, 3]


@pytest.mark.parametrize("paper", PAPERS)
def test_the_record_of_a_recipe_holds_for_every_stage(paper):
    """Fast: nothing is counted."""
    renew = f"make plan PAPER={paper} RECORD=1"
    found = records.read(records.path(paper))
    assert found is not None, f"benchmarks/plans/{paper}.json is missing or cannot be read: {renew}"
    known = Costs(records.present(hook_name(paper)))
    assert found.versions == known.now.versions, f"it is of other versions of libraries: {renew}"
    assert found.code == known.now.code, f"it is of other code: {renew}"
    known.take(records.path(paper))
    stale = {stage.name for stage in stages.stages_of(recipes.load(paper).arms("paper")) if not _known(known, stage)}
    assert not stale, f"not in benchmarks/plans/{paper}.json as their configs are now: {', '.join(stale)}: {renew}"


def _known(known, stage):
    config = json.loads(json.dumps(configuration(stage), default=str))
    return known.find(stage.name, stage.run, precision_of(config), config)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_stage_fits_the_gpu_that_its_recipe_names(paper):
    record = records.read(records.path(paper))
    assert record is not None
    known = Costs(record, list(record.stages))
    card = gpu(card_of(recipes.load(paper)))
    for stage in stages.stages_of(recipes.load(paper).arms("paper")):
        if counted := _known(known, stage):  # what is stale is the other test's
            made = plan_stage(stage, configuration(stage), counted.cost, card)
            assert made.fits, f"{stage.name}: {made.peak / 1e9:.1f} GB, {card.name} has {card.memory:g}"


def test_a_stage_counted_anew_is_as_its_record_says():
    paper, name = SMALL
    stage = next(one for one in stages.stages_of(recipes.load(paper).arms("paper")) if one.name == name)
    config = configuration(stage)
    with torch.device("meta"):
        workload = hook(paper)(stage, config)
    anew = meter.count(workload, precision_of(config), growing=stage.run != "test")
    record = records.read(records.path(paper))
    assert record is not None
    known = _known(Costs(record, list(record.stages)), stage)
    assert known is not None and known.cost == anew


def test_a_plan_of_a_fresh_clone_counts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "count", None)
    made = stages.plan(SMALL[0], "l4", runs=tmp_path)
    assert {stage.stage for stage in made} >= {"bi", "cross", "evaluate"} and not list(tmp_path.iterdir())
