"""The papers' pages: what is read from them, and that every mistake is named with file and key."""

import copy
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.judging import forms, tables
from benchmarks.judging.forms import Cell
from benchmarks.judging.tables import (
    Better,
    Bound,
    Claim,
    Measure,
    NotBetter,
    NotWorse,
    OnReported,
    Paper,
    Ratio,
    Value,
    Within,
    load_paper,
)
from benchmarks.judging.verdict import judge
from benchmarks.measuring import latency
from benchmarks.running import recipes
from common.errors import UserError
from tests.benchmarks.demo import PAGE

DOCUMENTED = (recipes.ROOT / "benchmarks" / "README.md").read_text()
ARMS = ["method", "plain", "untrained"]
OURS, THEIRS = ({"table": "costs", "row": row, "column": "Parameters"} for row in ("Ours", "Theirs"))
ABOVE = {"arm": "method", "metric": "checked", "above": 0.5}


def page() -> dict[str, Any]:
    return yaml.safe_load(PAGE)


def full_page() -> dict[str, Any]:
    """The page with a metric of validation data and a table of costs."""
    content = page()
    content["metrics"]["checked"] = {"label": "Accuracy on validation", "better": "higher", "validation": True}
    content["tables"].append(
        {
            "id": "costs",
            "title": "Costs",
            "source": {"where": "Table 2", "read_in": "paper"},
            "columns": [{"label": "Parameters", "metric": "parameters"}, {"label": "Images"}],
            "rows": [
                {"label": "Ours", "values": [9.66e6, "1 %"]},
                {"label": "Theirs", "values": [615e6, None]},
                {"label": "Nobody's", "values": [0, 0]},
            ],
        }
    )
    return content


def load(tmp_path: Path, content: Any) -> Paper:
    (tmp_path / "demo.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_paper("demo", ARMS, tmp_path)


def error(tmp_path: Path, content: Any) -> str:
    with pytest.raises(UserError) as raised:
        load(tmp_path, content)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'demo.yaml'}: ")
    return said.removeprefix(f"{tmp_path / 'demo.yaml'}: ")


def edited(path: str, value: Any) -> dict[str, Any]:
    """The page with one value changed: `claims.0.better.arm`; ... deletes it."""
    content = page()
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place: Any = content
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return content


def test_a_page_is_read(tmp_path: Path) -> None:
    paper = load(tmp_path, PAGE)
    assert (paper.title, paper.short_title, paper.year, paper.arxiv) == (
        "A demonstration",
        "A demonstration",
        2020,
        None,
    )
    assert paper.metrics["accuracy"].main and paper.metrics["parameters"].exact and not paper.metrics["accuracy"].exact
    assert [row.values for row in paper.tables[0].rows] == [(0.9,), (None,)]
    (claim,) = paper.claims
    assert claim.test == Better(Measure("method", "accuracy"), Measure("plain", "accuracy"), 0.0)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            {
                "better": {"arm": "method", "metric": "accuracy"},
                "worse": {"arm": "plain", "metric": "accuracy"},
                "margin": 1,
            },
            Better(Measure("method", "accuracy"), Measure("plain", "accuracy"), 1),
        ),
        (
            {"within": {"arm": "method", "of": "plain", "metric": "accuracy", "delta": 0.1}},
            Within(Measure("method", "accuracy"), Measure("plain", "accuracy"), 0.1),
        ),
        (
            {"ratio": {"arm": "method", "to": "plain", "metric": "parameters", "below": 0.5}},
            Ratio(Measure("method", "parameters"), Measure("plain", "parameters"), below=0.5),
        ),
        (
            {"bound": {"arm": "method", "metric": "accuracy", "above": -1}},
            Bound(Measure("method", "accuracy"), above=-1),
        ),
        (
            {"value": {"arm": "method", "metric": "parameters", "equals": 5e6, "tolerance": 0}},
            Value(Measure("method", "parameters"), 5e6, 0),
        ),
        (
            {"not_worse_than": {"arm": "method", "than": "plain", "metric": "accuracy", "margin": 0.02}},
            NotWorse(Measure("method", "accuracy"), Measure("plain", "accuracy"), 0.02),
        ),
        (
            {"not_better_than": {"arm": "method", "than": "plain", "metric": "accuracy", "margin": 0}},
            NotBetter(Measure("method", "accuracy"), Measure("plain", "accuracy"), 0),
        ),
        (  # two metrics of one arm
            {"not_worse_than": {"arm": "method", "metric": "accuracy", "than_metric": "checked", "margin": 0.1}},
            NotWorse(Measure("method", "accuracy"), Measure("method", "checked"), 0.1),
        ),
        (  # two metrics of two arms
            {"within": {"arm": "method", "metric": "accuracy", "of": "plain", "of_metric": "checked", "delta": 0.1}},
            Within(Measure("method", "accuracy"), Measure("plain", "checked"), 0.1),
        ),
        (
            {"ratio": {"arm": "method", "metric": "accuracy", "to_metric": "checked", "above": 1}, "smallest": 0.05},
            Ratio(Measure("method", "accuracy"), Measure("method", "checked"), above=1, smallest=0.05),
        ),
        (
            {
                "better": {"arm": "method", "metric": "accuracy"},
                "worse": {"arm": "plain", "metric": "checked"},
                "smallest": 0.01,
            },
            Better(Measure("method", "accuracy"), Measure("plain", "checked"), smallest=0.01),
        ),
        (
            {"bound": {"arm": "method", "metric": "accuracy", "above": 0.5}, "smallest": 0.1},
            Bound(Measure("method", "accuracy"), above=0.5, smallest=0.1),
        ),
        (
            {"reported": {"cell": OURS, "to": THEIRS, "take": "percent_less", "above": 98}},
            OnReported(
                Cell("costs", "Ours", "Parameters", 9.66e6),
                Cell("costs", "Theirs", "Parameters", 615e6),
                "percent_less",
                above=98,
            ),
        ),
        (
            {"reported": {"cell": OURS, "equals": 9.7e6, "tolerance": 1e5}},
            OnReported(Cell("costs", "Ours", "Parameters", 9.66e6), equals=9.7e6, tolerance=1e5),
        ),
    ],
)
def test_the_forms_of_a_test(tmp_path: Path, test: dict[str, Any], expected: Any) -> None:
    assert load(tmp_path, claim(**test)).claims[0].test == expected


def test_a_claim_may_be_about_a_network_of_the_real_size(tmp_path):
    claim = {"id": "C", "text": "t", "source": {"where": "Table 1", "read_in": "paper"}, "scales": ["mini", "paper"]}
    ratio = {"network": "Student", "to": "Teacher", "metric": "flops", "below": 0.1}
    page = load(tmp_path, {**yaml.safe_load(PAGE), "claims": [{**claim, "ratio": ratio}]})
    assert page.claims[0].test == Ratio(Measure("Student", "flops", True), Measure("Teacher", "flops", True), 0.1)
    with pytest.raises(UserError, match=r"claims\[0\].ratio.metric: unknown metric 'ms'"):
        load(tmp_path, {**yaml.safe_load(PAGE), "claims": [{**claim, "ratio": {**ratio, "metric": "ms"}}]})


def test_networks_that_claims_name_are_those_that_are_measured():
    for paper in recipes.names():
        networks = {
            measure.arm
            for claim in load_paper(paper, recipes.arm_names(paper)).claims
            for measure in (vars(claim.test).values() if claim.test else ())
            if isinstance(measure, Measure) and measure.real
        }
        if networks:
            assert networks <= {network.name for network in latency.load(paper).networks}, paper


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        # names
        ("claims.0.better.arm", "methd", "claims[0].better.arm: unknown arm 'methd': did you mean method?"),
        (
            "claims.0.worse.metric",
            "acuracy",
            "claims[0].worse.metric: unknown metric 'acuracy': did you mean accuracy?",
        ),
        ("tables.0.rows.0.arm", "methods", "tables[0].rows[0].arm: unknown arm 'methods': did you mean method?"),
        ("tables.0.columns.0.metric", "x", "tables[0].columns[0].metric: unknown metric 'x'"),
        ("paper", "other", "paper: must be 'demo', the name of the file"),
        # sources
        ("claims.0.source", "Table 1", "claims[0].source: must be a mapping, not 'Table 1'"),
        ("claims.0.source", ..., "claims[0]: 'source' is missing"),
        ("tables.0.source.read_in", "blog", "tables[0].source.read_in: unknown value 'blog'"),
        ("tables.0.source.where", "", "tables[0].source.where: must be text that is not empty"),
        ("tables.0.source.page", 3, "tables[0].source: unknown key 'page'"),
        # figures
        (
            "tables.0.rows.0.values",
            [0.9, 0.8],
            "tables[0].rows[0].values: 2 values for 1 columns; write null for a figure",
        ),
        ("tables.0.rows.0.values", ["high"], "tables[0].rows[0].values[0]: must be a number, not 'high'"),
        ("tables.0.rows.0.values", [True], "tables[0].rows[0].values[0]: must be a number"),
        ("tables.0.rows.0.values", [float("nan")], "tables[0].rows[0].values[0]: must be a number"),
        (
            "tables.0.rows.1.label",
            "Ours",
            "tables[0].rows[1].label: duplicate label 'Ours', which tables[0].rows[0] has too",
        ),
        # metrics
        ("metrics.accuracy.better", "up", "metrics.accuracy.better: unknown value 'up'"),
        ("metrics.accuracy.better", ..., "metrics.accuracy: 'better' is missing"),
        ("metrics.accuracy.decimals", -1, "metrics.accuracy.decimals: must be a whole number from 0 to 12, not -1"),
        ("metrics.accuracy.main", "yes", "metrics.accuracy.main: must be true or false"),
        ("metrics.accuracy.lable", "x", "metrics.accuracy: unknown key 'lable': did you mean label?"),
        # claims
        ("claims.0.scales", ["mini"], "claims[0]: paper stands in neither of `scales` and `untested`"),
        ("claims.0.scales", ["mini", "huge"], "claims[0].scales[1]: unknown value 'huge'"),
        ("claims.0.untested", {"mini": "why"}, "claims[0]: mini stands in both of `scales` and `untested`"),
        ("claims.0.untested", {"huge-photos": "why"}, "claims[0].untested: unknown value 'huge-photos'"),
        ("claims.0.worse", ..., "claims[0]: 'worse' is missing"),
        (
            "claims.0.bound",
            {"arm": "method", "metric": "accuracy", "above": 0},
            "claims[0]: has 2 tests (better, bound)",
        ),
        ("claims.0.margin", -0.1, "claims[0].margin: must be a number of at least 0"),
        ("claims.0.better.metric", "parameters", "claims[0]: `better` needs metrics that say, alike, which direction"),
        ("claims.0.better.delta", 1, "claims[0].better: unknown key 'delta'"),
        # the page itself
        ("modality", ..., "'modality' is missing"),
        ("year", "2020", "year: must be a whole number from 1900 to 2100, not '2020'"),
        ("title", 5, "title: must be text (put it in quotes), not 5"),
        ("official_code", "github.com/x", "official_code: must be null or an address that starts with https://"),
        ("tabels", [], "unknown key 'tabels': did you mean tables?"),
        ("claims", {}, "claims: must be a list"),
    ],
)
def test_every_mistake_is_named_with_its_key(tmp_path: Path, path: str, value: Any, said: str) -> None:
    assert said in error(tmp_path, edited(path, value))


def claim(**changes: Any) -> dict[str, Any]:
    """The page with a claim that has only what is given beside its id, text, source and scales."""
    kept = {key: value for key, value in page()["claims"][0].items() if key not in ("better", "worse")}
    return {**full_page(), "claims": [kept | changes]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "claims[0]: has no test; one of better, not_worse_than, not_better_than, within, ratio, bound, value"),
        (
            {"bound": {"arm": "method", "metric": "accuracy"}},
            "claims[0].bound: needs exactly one of `below` and `above`",
        ),
        (
            {"bound": {"arm": "method", "metric": "accuracy", "below": 1, "above": 0}},
            "claims[0].bound: needs exactly one of `below` and `above`",
        ),
        (
            {"ratio": {"arm": "method", "to": "plain", "metric": "accuracy", "below": -1}},
            "claims[0].ratio.below: must be a number of at least 0",
        ),
        (
            {"value": {"arm": "method", "metric": "accuracy", "equals": 1, "tolerance": 1}, "margin": 1},
            "claims[0]: `worse` and `margin` go with `better`",
        ),
        (
            {"not_worse_than": {"arm": "method", "than": "plain", "metric": "accuracy"}},
            "claims[0].not_worse_than: 'margin' is missing",
        ),
        (
            {"not_worse_than": {"arm": "method", "metric": "accuracy", "margin": 0.1}},
            "claims[0].not_worse_than: 'than' is missing: the arm to compare with (or 'than_metric'",
        ),
        (
            {"not_better_than": {"arm": "method", "than": "plain", "metric": "accuracy", "margin": -1}},
            "claims[0].not_better_than.margin: must be a number of at least 0",
        ),
        (
            {
                "not_better_than": {
                    "arm": "method",
                    "metric": "accuracy",
                    "than_metric": "parameters",
                    "margin": 1,
                }
            },
            "claims[0].not_better_than: `not_better_than` needs metrics that say, alike, which direction is better",
        ),
        (
            {"within": {"arm": "method", "of": "method", "metric": "accuracy", "delta": 1}},
            "claims[0].within: compares a figure with itself",
        ),
        (
            {"within": {"arm": "a", "of": "plain", "metric": "accuracy", "delta": 1}},
            "claims[0].within.arm: unknown arm",
        ),
        (
            {"within": {"arm": "method", "of": "plain", "metric": "accuracy", "delta": 1}, "smallest": 0.1},
            "claims[0]: `smallest` goes with `better`, `ratio` and `bound`",
        ),
        (
            {"ratio": {"arm": "method", "to": "plain", "metric": "accuracy", "below": 1}, "smallest": 5},
            "claims[0].smallest: must be a fraction below 1 with `ratio`",
        ),
        (
            {"ratio": {"arm": "method", "to": "plain", "metric": "accuracy", "below": 1}, "smallest": 0},
            "claims[0].smallest: must be more than 0",
        ),
        ({"reported": {"cell": OURS}}, "claims[0].reported: needs exactly one of `below` and `above`"),
        ({"reported": {"cell": OURS, "to": THEIRS, "above": 1}}, "claims[0].reported: `to` and `take` (difference,"),
        (
            {"reported": {"cell": OURS, "to": THEIRS, "take": "percent", "above": 1}},
            "claims[0].reported.take: unknown value 'percent': did you mean",
        ),
        (
            {"reported": {"cell": {**OURS, "row": "Our"}, "above": 1}},
            "claims[0].reported.cell.row: unknown row 'Our': did you mean Ours?",
        ),
        (
            {"reported": {"cell": {**OURS, "table": "cost"}, "above": 1}},
            "claims[0].reported.cell.table: unknown table 'cost': did you mean costs?",
        ),
        (
            {"reported": {"cell": {**OURS, "column": "Images"}, "above": 1}},
            "claims[0].reported.cell: holds no number: '1 %' is text",
        ),
        (
            {"reported": {"cell": {**THEIRS, "column": "Images"}, "above": 1}},
            "claims[0].reported.cell: holds no number: the figure is not known (null)",
        ),
        (
            {"reported": {"cell": OURS, "to": {**OURS, "row": "Nobody's"}, "take": "ratio", "above": 1}},
            "claims[0].reported.to: is 0, by which nothing can be divided",
        ),
        ({"reported": {"cell": OURS, "equals": 1}}, "claims[0].reported: 'tolerance' is missing"),
        ({"reported": {"cell": OURS, "equals": 1, "tolerance": 1, "below": 1}}, "needs one of `below`, `above` and"),
        (
            {"reported": {"cell": OURS, "below": 1, "tolerance": 1}},
            "claims[0].reported: `tolerance` goes with `equals`",
        ),
        (
            {"reported": {"cell": OURS, "above": 1}, "premise": [ABOVE]},
            "claims[0].premise: goes with what was measured",
        ),
        ({"bound": {**ABOVE, "metric": "accuracy"}, "premise": ABOVE}, "claims[0].premise: must be a list"),
        (
            {"bound": {**ABOVE, "metric": "accuracy"}, "premise": [{**ABOVE, "metric": "accuracy"}]},
            "claims[0].premise[0]: metric 'accuracy' is neither of validation data",
        ),
        (
            {"bound": ABOVE, "premise": [{"arm": "method", "metric": "checked"}]},
            "claims[0].premise[0].bound: needs exactly one of `below` and `above`",
        ),
        ({"bound": ABOVE, "premise": [{"above": 3}]}, "claims[0].premise[0]: unknown key 'above'"),
        ({"bound": ABOVE, "premise": [{"worse": {"arm": "plain"}}]}, "claims[0].premise[0]: needs an `arm` with"),
        (
            {"bound": ABOVE, "premise": [{"reported": {"cell": OURS, "above": 1}}]},
            "claims[0].premise[0]: unknown key 'reported'",
        ),
        (
            {"scales": [], "untested": {"mini": "a", "paper": "b"}, "premise": [ABOVE]},
            "claims[0].premise: needs a test that it goes with",
        ),
        ({"scales": [], "untested": {"mini": "a"}}, "claims[0]: paper stands in neither"),
        ({"scales": [], "untested": {"mini": "a", "paper": None}}, "claims[0].untested.paper: must be text, not null"),
        ({"scales": [], "untested": {"mini": "a", "papr": "b"}}, "claims[0].untested: unknown value 'papr'"),
    ],
)
def test_claims_that_cannot_be_tested_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in error(tmp_path, claim(**changes))


def test_premises_are_bounds_or_tests_on_validation_data_or_counted_figures(tmp_path: Path) -> None:
    comparison = {"better": {"arm": "plain", "metric": "checked"}, "worse": {"arm": "untrained", "metric": "checked"}}
    smaller = {"ratio": {"arm": "method", "to": "plain", "metric": "parameters", "below": 1}}
    content = claim(bound={**ABOVE, "metric": "accuracy"}, premise=[ABOVE, comparison, smaller])
    assert load(tmp_path, content).claims[0].premise == (
        Bound(Measure("method", "checked"), above=0.5),
        Better(Measure("plain", "checked"), Measure("untrained", "checked")),
        Ratio(Measure("method", "parameters"), Measure("plain", "parameters"), below=1),
    )


@pytest.mark.parametrize(
    ("test", "figure"),
    [
        (OnReported(Cell("t", "r", "c", 0.3)), 0.3),
        (OnReported(Cell("t", "r", "c", 0.3), Cell("t", "s", "c", 0.2), "difference"), 0.1),  # not 0.09999999999999998
        (OnReported(Cell("t", "r", "c", 5), Cell("t", "s", "c", 0), "difference"), 5),
        (OnReported(Cell("t", "r", "c", 1), Cell("t", "s", "c", 4), "ratio"), 0.25),
        (OnReported(Cell("t", "r", "c", 1), Cell("t", "s", "c", 4), "percent_less"), 75),
        (OnReported(Cell("t", "r", "c", 1.1), Cell("t", "s", "c", 1), "percent_more"), 10),
    ],
)
def test_arithmetic_on_reported_figures(test: OnReported, figure: float) -> None:
    assert test.figure() == figure


def test_a_claim_that_no_scale_tests_says_why(tmp_path: Path) -> None:
    (found,) = load(tmp_path, claim(scales=[], untested={"mini": "no arm", "paper": "no data"})).claims
    assert isinstance(found, Claim) and found.test is None and found.untested == {"mini": "no arm", "paper": "no data"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("paper: [", "not valid YAML"),
        ("- a list", "must be a mapping"),
        ("", "must be a mapping, not null"),
        (f"{PAGE}\ntitle: Again\n", "duplicate key 'title'"),
        (f"{PAGE}\n3: x\n", "key 3 must be text: put it in quotes"),
    ],
)
def test_a_page_that_is_no_page(tmp_path: Path, content: str, said: str) -> None:
    assert said in error(tmp_path, content)


BOMB = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 30))
MERGES = "".join(f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 10)}]}}\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"x0: &x0 [1]\n{BOMB}", "more than 100,000 values, aliases included"),
        (f"x0: &x0 {{a: 1}}\n{MERGES}", "more than 100,000 values, aliases included"),
        ("a: &a [*a]", "*a names nothing that ends before it"),
        ("[" * 300_000, "exceeded maximum nesting depth"),
        ("[" * 300, "nested more than 30 deep"),
        ("{a: " * 100_000, "nested more than 30 deep"),
        ("- " * 100_000, "nested more than 30 deep"),
        ("a: 1\n" * 210_000, "at most 1,000,000 are read"),
        ("a: !!python/object/apply:os.system [ls]", "tags (!!...) have no place in a page"),
        ("a: !!bool maybe", "tags (!!...) have no place in a page"),
        ("? [1, 2]\n: 3", "a key must be text"),
        ("? {a: 1}\n: 3", "a key must be text"),
        ("null: 3", "key null must be text"),
        ("2020-01-01: 3", "must be text: put it in quotes"),
        (f"? {'9' * 3_000}\n: 1", "key a number beyond all measure must be text"),
        (f"a: {'9' * 100_000}", "not valid YAML: a date or number that cannot be"),
        ("a: 2020-13-45", "not valid YAML: a date or number that cannot be"),
        (f"a: {':'.join(['59'] * 2_000)}.5", "not valid YAML: a date or number that cannot be"),
        ("a: *b", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("\t- a", "not valid YAML"),
        ("true", "must be a mapping, not True"),
        ("3", "must be a mapping, not 3"),
        ("text", "must be a mapping, not 'text'"),
        ("# nothing but words", "must be a mapping, not null"),
        ("---\n...", "must be a mapping, not null"),
    ],
)
def test_what_a_reader_could_choke_on_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    found = error(tmp_path, content)
    assert said in found and len(found) < 400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfep\0a\0", "not valid YAML: not UTF-8 text"),
        ("title: é".encode("latin-1"), "not valid YAML: not UTF-8 text"),
        (bytes(range(256)), "not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not valid YAML"),
    ],
)
def test_files_that_hold_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "demo.yaml").write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_paper("demo", ARMS, tmp_path)


def test_a_folder_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").mkdir()
    with pytest.raises(UserError, match="demo.yaml: cannot be read: Is a directory"):
        load_paper("demo", ARMS, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("metrics.accuracy.decimals", 100_000_000, "must be a whole number from 0 to 12, not 100000000"),
        (
            "metrics.accuracy.decimals",
            10**4_000,
            "must be a whole number from 0 to 12, not a number beyond all measure",
        ),
        ("year", 10**4_000, "must be a whole number from 1900 to 2100"),
        ("claims.0.margin", 10**4_000, "must be a number, not a number beyond all measure"),
        ("claims.0.margin", 1e300, "must be a number, not 1e+300"),
        ("claims.0.margin", math.inf, "must be a number, not inf"),
        ("claims.0.margin", math.nan, "must be a number, not nan"),
        ("claims.0.margin", True, "must be a number, not True"),
        ("tables.0.rows.0.values", [-math.inf], "must be a number, not -inf"),
        ("claims.0.better.arm", "x" * 10_000, "unknown arm 'xxx"),
        ("claims.0.scales", "mini", "must be a list"),
    ],
)
def test_absurd_values_are_refused(tmp_path: Path, path: str, value: Any, said: str) -> None:
    found = error(tmp_path, edited(path, value))
    assert said in found and len(found) < 400


ODD = (
    None,
    "",
    "x",
    "0",
    0,
    -1,
    1e-300,
    1e31,
    10**400,
    math.nan,
    math.inf,
    True,
    [],
    [[]],
    {},
    {"arm": "method"},
    ["mini"],
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a page with each of its keys."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def varied_page() -> dict[str, Any]:
    """A page with claims of several forms."""
    content = claim(
        better={"arm": "method", "metric": "accuracy"},
        worse={"arm": "plain", "metric": "accuracy"},
        margin=0.1,
        smallest=0.2,
        premise=[ABOVE, {"within": {"arm": "method", "of": "plain", "metric": "checked", "delta": 1}}],
    )
    not_worse = {"arm": "method", "than": "plain", "metric": "accuracy", "margin": 1}
    reported = {"cell": OURS, "to": THEIRS, "take": "ratio", "below": 1}
    first = {key: content["claims"][0][key] for key in ("text", "source", "scales")}
    content["claims"] += [{**first, "id": "D", "not_worse_than": not_worse}, {**first, "id": "E", "reported": reported}]
    return content


def mutated(content: dict[str, Any], rng: random.Random) -> str:
    """A page with one to three values replaced, taken away or renamed; its text may be cut or spoilt too."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(content))
        action = rng.randrange(4)
        if action < 2:
            container[key] = copy.deepcopy(rng.choice(ODD))
        elif action == 2:
            del container[key]
        elif isinstance(container, dict):
            container[rng.choice((1, None, "metric", "arm", "network", f"{key} "))] = container.pop(key)
    text = yaml.safe_dump(content)
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        text = (
            text[:at] + rng.choice(("", "\0", "&a ", "*a", "{", "]", "\t", "<<: 3\n", "!!set ", "'")) + text[at + 3 :]
        )
    return text


def test_whatever_stands_in_a_page_it_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    rng, whole = random.Random(0), varied_page()
    read = 0
    for _ in range(270):
        content = mutated(whole, rng)
        try:
            paper = load(tmp_path, content)
        except UserError as refused:
            assert "demo.yaml" in str(refused) and len(str(refused)) < 600, content
        else:
            read += 1
            judge({"scale": "mini", "arms": {}}, paper)
    assert 5 < read < 200


def test_every_form_of_a_test_is_documented() -> None:
    for kind in forms.TESTS:
        assert f"| `{kind}: {{" in DOCUMENTED and f"    {kind}: {{" in (tables.__doc__ or ""), kind
    for key in ("smallest", "premise", *forms.ARITHMETIC, "than_metric", "of_metric", "to_metric"):
        assert f"`{key}" in DOCUMENTED and key in (tables.__doc__ or ""), key


def test_the_page_of_the_readme_is_a_page(tmp_path: Path) -> None:
    written = yaml.safe_load(DOCUMENTED.split("```yaml\n")[1].split("```")[0])
    head = {key: value for key, value in page().items() if key not in written}
    (tmp_path / "mobilesam.yaml").write_text(yaml.safe_dump(head | written))
    paper = load_paper("mobilesam", ["decoupled", "coupled", "teacher"], tmp_path)
    assert paper.claims[0].premise and paper.claims[0].test


def test_a_missing_page_is_named_from_the_projects_root() -> None:
    with pytest.raises(UserError, match="^benchmarks/papers/nonsense.yaml does not exist"):
        load_paper("nonsense", ARMS)


def test_reported_figures_of_an_arm(tmp_path: Path) -> None:
    content = edited("tables.0.columns", [{"label": "A", "metric": "accuracy"}, {"label": "B", "metric": "accuracy"}])
    content["tables"][0]["rows"] = [
        {"label": "Ours", "arm": "method", "values": [0.9, 0.7]},
        {"label": "Ours, small", "arm": "method", "values": [0.8, None]},
        {"label": "Theirs", "arm": "plain", "values": [None, None]},
    ]
    paper = load(tmp_path, content)
    (found,) = paper.reported("method", "accuracy")
    assert (found.low, found.high) == (0.7, 0.9)
    (unknown,) = paper.reported("plain", "accuracy")
    assert (unknown.low, unknown.high) == (None, None)
    assert paper.reported("untrained", "accuracy") == [] and paper.reported("method", "parameters") == []


def test_text_stays_as_the_paper_writes_it(tmp_path: Path) -> None:
    content = edited("tables.0.columns", [{"label": "Images"}])
    content["tables"][0]["rows"] = [{"label": "Ours", "values": ["180k"]}, {"label": "Theirs", "values": [11]}]
    assert [row.values for row in load(tmp_path, content).tables[0].rows] == [("180k",), (11,)]


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipes_page_is_valid(name: str) -> None:
    paper = load_paper(name, recipes.arm_names(name))
    assert paper.claims and paper.tables
