"""What a paper reports and claims, as data: `benchmarks/papers/<paper>.yaml`, checked while it is loaded.

    metrics   name -> how a measured figure is called and shown
    tables    the paper's tables; a row's `arm` and a column's `metric` put a figure beside the measured one
    claims    statements that a run can confirm or refute, each with one test

A test may name a network of the recipe's `speed.py` instead of an arm, `{network: MobileSAM encoder, metric: params}`:
it is judged, at any scale, by what `make speed` measured of the real architecture (`params` or `flops`).

A figure that is not known is `null`. Every error names the file and the key: `claims[2].better.arm: unknown arm ...`.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.judging.checked import Node, read_yaml, shown
from common.errors import UserError

PAPERS = Path(__file__).resolve().parents[1] / "papers"
READ_IN = ("paper", "abstract", "repository")
TESTABLE = ("mini", "paper")  # a rehearsal tests the machinery, never a claim


@dataclass(frozen=True)
class Metric:
    """How a measured figure is shown.

    Attributes:
        unit: "" for a plain number, "count" for numbers shown as 5.74 M, else the unit's sign ("ms").
        better: which direction is better; None where neither is.
        decimals: digits after the point of a measured figure.
        main: shown in the terminal's table and first in the report.
        exact: counted, the same for every seed: one seed decides a claim about it.
    """

    name: str
    label: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    decimals: int = 3
    description: str = ""
    main: bool = False
    exact: bool = False


@dataclass(frozen=True)
class Source:
    """Where a figure or claim stands ("Table 2") and in which document it was read."""

    where: str
    read_in: Literal["paper", "abstract", "repository"]

    def __str__(self) -> str:
        return self.where if self.read_in in self.where else f"{self.where} ({self.read_in})"


@dataclass(frozen=True)
class Column:
    label: str
    metric: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of a reported table; text is kept as the paper writes it ("180k"), None is a figure that is not known."""

    label: str
    values: tuple[float | str | None, ...]
    arm: str | None = None


@dataclass(frozen=True)
class Table:
    id: str
    title: str
    source: Source
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Reported:
    """The figures one table gives for an arm and a metric: lowest and highest, or None where they are not known."""

    table: Table
    low: float | None
    high: float | None


REAL_SIZE = {
    "params": Metric("params", "Parameters", unit="count", decimals=2, exact=True),
    "flops": Metric("flops", "FLOPs", unit="count", decimals=2, exact=True),
}
"""What is counted of a network of the real size."""


@dataclass(frozen=True)
class Measure:
    """A metric of an arm; `real`: what is counted of a network of the real size, and `arm` is its name."""

    arm: str
    metric: str
    real: bool = False


@dataclass(frozen=True)
class Better:
    """`better: {arm, metric}`, `worse: {arm, metric}`, optional `margin`: the one beats the other by more than that."""

    better: Measure
    worse: Measure
    margin: float = 0.0


@dataclass(frozen=True)
class Within:
    """`within: {arm, of, metric, delta}`: the two arms differ by at most delta."""

    a: Measure
    b: Measure
    delta: float


@dataclass(frozen=True)
class Ratio:
    """`ratio: {arm, to, metric, below | above}`: arm's figure divided by to's lies below or above a bound."""

    a: Measure
    b: Measure
    below: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Bound:
    """`bound: {arm, metric, below | above}`: an arm's figure lies below or above a bound."""

    a: Measure
    below: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Value:
    """`value: {arm, metric, equals, tolerance}`: an arm's figure is the reported one, give or take the tolerance."""

    a: Measure
    equals: float
    tolerance: float


Test = Better | Within | Ratio | Bound | Value
TESTS = ("better", "within", "ratio", "bound", "value")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words.

    Attributes:
        scales: scales at which a run tests it.
        untested: for every other scale, why it is not tested there.
        test: None for a claim that no scale tests.
    """

    id: str
    text: str
    source: Source
    scales: tuple[str, ...]
    untested: dict[str, str]
    test: Test | None


@dataclass(frozen=True)
class Paper:
    """A paper's page: what it is, what it reports, what it claims."""

    paper: str
    title: str
    short_title: str
    authors: str
    year: int
    arxiv: str | None
    official_code: str | None
    licence: str | None
    modality: str
    summary: str
    metrics: dict[str, Metric]
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]

    def metric(self, measure: Measure) -> Metric:
        """How a measured figure is shown."""
        return (REAL_SIZE if measure.real else self.metrics)[measure.metric]

    def reported(self, arm: str, metric: str) -> list[Reported]:
        """What the paper gives for an arm and a metric, one entry per table; empty where no table has it."""
        found = []
        for table in self.tables:
            cells = [
                row.values[i]
                for row in table.rows
                for i, column in enumerate(table.columns)
                if row.arm == arm and column.metric == metric
            ]
            if cells:
                known = [cell for cell in cells if isinstance(cell, int | float)]
                found.append(Reported(table, min(known, default=None), max(known, default=None)))
        return found


def load_paper(name: str, arms: list[str], papers: Path = PAPERS) -> Paper:
    """Read and check a paper's page.

    Args:
        name: the recipe's name; the file is `<papers>/<name>.yaml`.
        arms: the recipe's arms, which rows and claims may name.

    Raises:
        UserError: the file is missing or wrong; the message names file and key.
    """
    file = papers / f"{name}.yaml"
    if not file.exists():
        raise UserError(f"{shown(file)} does not exist: every recipe has a page of reported figures and claims there.")
    page = read_yaml(file)
    page.only(*Paper.__dataclass_fields__)
    if page["paper"].text() != name:
        page["paper"].fail(f"must be '{name}', the name of the file")
    metrics = {node.key: _metric(node) for node in page["metrics"].mapping()}
    return Paper(
        paper=name,
        title=page["title"].text(),
        short_title=page["short_title"].text() if "short_title" in page else page["title"].text(),
        authors=page["authors"].text(),
        year=page["year"].integer(),
        arxiv=page["arxiv"].text_or_null(),
        official_code=page["official_code"].url_or_null(),
        licence=page["licence"].text_or_null(),
        modality=page["modality"].text(),
        summary=page["summary"].text() if "summary" in page else "",
        metrics=metrics,
        tables=tuple(page["tables"].items("id", partial(_table, metrics=metrics, arms=arms))),
        claims=tuple(page["claims"].items("id", partial(_claim, metrics=metrics, arms=arms))),
    )


def _metric(node: Node) -> Metric:
    node.only(*(field for field in Metric.__dataclass_fields__ if field != "name"))
    return Metric(
        name=node.key,
        label=node["label"].text(),
        unit=node["unit"].text() if "unit" in node else "",
        better=node["better"].one_of("higher", "lower", None),
        decimals=node["decimals"].integer(low=0) if "decimals" in node else 3,
        description=node["description"].text() if "description" in node else "",
        main=node["main"].boolean() if "main" in node else False,
        exact=node["exact"].boolean() if "exact" in node else False,
    )


def _source(node: Node) -> Source:
    node.only("where", "read_in")
    return Source(node["where"].text(), node["read_in"].one_of(*READ_IN))


def _table(node: Node, metrics: dict[str, Metric], arms: list[str]) -> Table:
    node.only(*Table.__dataclass_fields__)
    columns = tuple(node["columns"].items("label", partial(_column, metrics=metrics)))
    return Table(
        id=node["id"].text(),
        title=node["title"].text(),
        source=_source(node["source"]),
        columns=columns,
        rows=tuple(node["rows"].items("label", partial(_row, columns=columns, arms=arms))),
        note=node["note"].text() if "note" in node else "",
    )


def _column(node: Node, metrics: dict[str, Metric]) -> Column:
    node.only("label", "metric")
    return Column(node["label"].text(), node["metric"].known("metric", metrics) if "metric" in node else None)


def _row(node: Node, columns: tuple[Column, ...], arms: list[str]) -> Row:
    node.only("label", "arm", "values")
    values = list(node["values"].sequence())
    if len(values) != len(columns):
        node["values"].fail(
            f"{len(values)} values for {len(columns)} columns; write null for a figure that is not known"
        )
    cells: list[float | str | None] = []
    for value, column in zip(values, columns, strict=True):
        if value.raw is None:
            cells.append(None)
        elif column.metric is None and isinstance(value.raw, str):
            cells.append(value.text())
        else:
            cells.append(value.number())
    return Row(node["label"].text(), tuple(cells), node["arm"].known("arm", arms) if "arm" in node else None)


def _claim(node: Node, metrics: dict[str, Metric], arms: list[str]) -> Claim:
    node.only("id", "text", "source", "scales", "untested", *TESTS, "worse", "margin")
    tests = [kind for kind in TESTS if kind in node]
    if len(tests) > 1:
        node.fail(f"has {len(tests)} tests ({', '.join(tests)}); a claim has one")
    scales = tuple(scale.one_of(*TESTABLE) for scale in node["scales"].sequence())
    untested = {reason.key: reason.text() for reason in node["untested"].mapping()} if "untested" in node else {}
    for scale in untested:
        node["untested"].choice(scale, TESTABLE)
    for scale in TESTABLE:
        if (scale in scales) == (scale in untested):
            wrong = "both" if scale in scales else "neither"
            node.fail(f"{scale} stands in {wrong} of `scales` and `untested`; it belongs in exactly one")
    if scales and not tests:
        node.fail(f"has no test; one of {', '.join(TESTS)} is needed, or an empty `scales` with reasons in `untested`")
    test = _test(tests[0], node, metrics, arms) if tests else None
    return Claim(node["id"].text(), node["text"].text(), _source(node["source"]), scales, untested, test)


def _test(kind: str, claim: Node, metrics: dict[str, Metric], arms: list[str]) -> Test:
    """The test of a claim, from its key of that name."""
    node = claim[kind]

    def measure(node: Node, arm: str = "arm") -> Measure:
        if "network" in node:
            network = node["network" if arm == "arm" else arm].text()
            return Measure(network, node["metric"].known("metric", REAL_SIZE), real=True)
        return Measure(node[arm].known("arm", arms), node["metric"].known("metric", metrics))

    if kind != "better" and ("worse" in claim or "margin" in claim):
        claim.fail("`worse` and `margin` go with `better`")
    if kind == "better":
        node.only("arm", "metric")
        claim["worse"].only("arm", "metric")
        better, worse = measure(node), measure(claim["worse"])
        if metrics[better.metric].better is None or metrics[better.metric].better != metrics[worse.metric].better:
            claim.fail("`better` needs metrics that say, alike, which direction is better")
        return Better(better, worse, claim["margin"].number(low=0) if "margin" in claim else 0.0)
    if kind == "within":
        node.only("arm", "of", "metric", "delta")
        return Within(measure(node), measure(node, "of"), node["delta"].number(low=0))
    if kind == "value":
        node.only("arm", "network", "metric", "equals", "tolerance")
        return Value(measure(node), node["equals"].number(), node["tolerance"].number(low=0))
    node.only("arm", "network", "metric", "below", "above", *(["to"] if kind == "ratio" else []))
    if ("below" in node) == ("above" in node):
        node.fail("needs exactly one of `below` and `above`")
    lowest = 0.0 if kind == "ratio" else -math.inf
    bound: dict[str, Any] = {side: node[side].number(low=lowest) for side in ("below", "above") if side in node}
    return Ratio(measure(node), measure(node, "to"), **bound) if kind == "ratio" else Bound(measure(node), **bound)
