"""The papers' pages: what is read from them, and that every mistake is named with file and key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.judging.tables import Better, Bound, Claim, Measure, Paper, Ratio, Value, Within, load_paper
from benchmarks.measuring import latency
from benchmarks.running import recipes
from common.errors import UserError
from tests.benchmarks.demo import PAGE

ARMS = ["method", "plain", "untrained"]


def page() -> dict[str, Any]:
    return yaml.safe_load(PAGE)


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
    ],
)
def test_the_five_kinds_of_test(tmp_path: Path, test: dict[str, Any], expected: Any) -> None:
    claim = {key: value for key, value in page()["claims"][0].items() if key not in ("better", "worse")}
    assert load(tmp_path, {**page(), "claims": [claim | test]}).claims[0].test == expected


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
    return {**page(), "claims": [kept | changes]}


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
        ({"scales": [], "untested": {"mini": "a"}}, "claims[0]: paper stands in neither"),
        ({"scales": [], "untested": {"mini": "a", "paper": None}}, "claims[0].untested.paper: must be text, not null"),
        ({"scales": [], "untested": {"mini": "a", "papr": "b"}}, "claims[0].untested: unknown value 'papr'"),
    ],
)
def test_claims_that_cannot_be_tested_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in error(tmp_path, claim(**changes))


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
