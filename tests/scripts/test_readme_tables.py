"""The READMEs' tables are those that the recipes and their results make."""

import re
from types import SimpleNamespace

import pytest

from benchmarks.judging.tables import load_paper
from benchmarks.planning import stages
from benchmarks.running import recipes, results
from common.errors import UserError
from scripts import readme_tables
from scripts.readme_tables import (
    README,
    SMALL,
    filled,
    measured,
    measurements,
    planned,
    recipe_readmes,
    small_table,
    updated,
    verdicts,
)

REMEDY = "run: python -m scripts.readme_tables"


def test_the_table_of_recipes_is_up_to_date():
    text = README.read_text()
    assert updated(text) == text, REMEDY
    small = SMALL.read_text()
    assert updated(small, small_table, SMALL) == small, REMEDY


def test_claims_at_small_scale_have_a_column_of_their_own(monkeypatch):
    counts = {"mini": "2 confirmed", "mini-coco": "1 refuted", "small": "3 confirmed", "small-coco": "none"}
    monkeypatch.setattr(recipes, "names", lambda: ["mobilesam"])
    monkeypatch.setattr(results, "references", lambda name: {label: label for label in counts})
    monkeypatch.setattr(readme_tables, "statuses", lambda file, paper: file)
    monkeypatch.setattr(readme_tables, "count_statuses", lambda file: counts[file])
    line = readme_tables.recipe_table().splitlines()[2]
    assert line.endswith("| mini: 2 confirmed<br>mini-coco: 1 refuted | 3 confirmed<br>small-coco: none |")


@pytest.mark.parametrize("readme", recipe_readmes(), ids=lambda readme: readme.parent.name)
def test_a_recipe_shows_what_was_measured(readme):
    text = readme.read_text()
    assert filled(text, readme.parent.name) == text, REMEDY
    if list(results.RESULTS.glob(f"{readme.parent.name}.*.json")):
        assert "<!-- verdicts " in text and "<!-- measured " in text


def page(name="mobilesam"):
    return load_paper(name, recipes.arm_names(name))


def test_arms_with_figures_have_a_row():
    found = {"arms": {
        "decoupled": {"method": True, "seeds": {"0": {"miou_teacher_point": 0.5}, "1": {"miou_teacher_point": 0.7}}},
        "coupled": {"method": False, "seeds": {"0": {"miou_teacher_point": 0.1, "miou_teacher_box": 0.2}}},
        "untrained": {"method": False, "seeds": {"0": {"other": 1.0}}},
    }}  # fmt: skip
    lines = measured(found, page(), ["miou_teacher_point", "miou_teacher_box"]).splitlines()
    assert lines[2:] == ["| **`decoupled`** | 0.600 ± 0.141 |  |", "| `coupled` | 0.100 | 0.200 |"]
    with pytest.raises(UserError, match="shows height, unknown"):
        measured(found, page(), ["height"])


def test_claims_of_several_scales_share_a_table():
    entry = {"claim": "C1", "status": "confirmed", "reason": "", "estimate": 0.25, "low": 0.2, "high": 0.3}
    untested = {**entry, "status": "untested", "estimate": None}
    unknown = {**entry, "status": "inconclusive", "reason": "arm coupled | has no results", "estimate": None}
    scales = {"mini": {"verdicts": [entry]}, "mini-coco": {"verdicts": [unknown]}, "paper": {"verdicts": [untested]}}
    head, _, *rows = verdicts(scales, page()).splitlines()
    assert head == "| claim | mini | mini-coco | paper |" and len(rows) == 1
    end = r"\| confirmed, \+0\.250 \[0\.200, 0\.300\] \| inconclusive: arm coupled / has no results \|  \|$"
    assert rows[0].startswith("| **C1** ") and re.search(end, rows[0])


def test_trainings_at_paper_scale_have_a_row(monkeypatch):
    fit = {"run": "fit", "devices": 8, "accumulate": 2, "batch": 64, "peak": 71.8e9, "seconds": 86400.0}
    made = [
        SimpleNamespace(stage="distill", arms=["decoupled", "coupled"], **fit),
        SimpleNamespace(stage="embed", arms=["decoupled"], **{**fit, "run": "predict"}),
        SimpleNamespace(stage="finetune", arms=["coupled"], **{**fit, "devices": 1, "accumulate": 1, "batch": 4}),
    ]
    monkeypatch.setattr(stages, "plan", lambda paper, gpu, runs: made)
    assert planned("mobilesam", "a100-80g").splitlines()[2:] == [
        "| `distill` | 8 a100-80g | 8 x 2 x 64 | 72 GB | 24 h | `decoupled`, `coupled` |",
        "| `finetune` | 1 a100-80g | 4 | 72 GB | 24 h | `coupled` |",
    ]


def test_results_that_are_not_there_are_named():
    with pytest.raises(UserError, match="projects/mobilesam/README.md shows mini-mars"):
        measurements(page(), "mini-mars")


def test_a_recipe_that_was_not_measured_yet_has_empty_tables(monkeypatch):
    text = "a\n<!-- measured mini: miou -->\nold\n<!-- /measured -->\n<!-- verdicts mini -->\n<!-- /verdicts -->\n"
    monkeypatch.setattr(results, "references", lambda paper: {})
    assert filled(text, "mobilesam") == text.replace("old\n", "")
    monkeypatch.setattr(results, "references", lambda paper: {"mini": README})
    later = text.replace("mini", "small")
    assert filled(later, "mobilesam") == later.replace("old\n", "")
    monkeypatch.setattr(results, "references", lambda paper: {"mini-mars": README})
    with pytest.raises(UserError, match="shows mini-mars"):
        filled(text.replace("mini", "mini-mars"), "mobilesam")
