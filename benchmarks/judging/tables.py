"""What a paper reports and claims, as data: `benchmarks/papers/<paper>.yaml`, checked while it is loaded.

    metrics   name -> how a measured figure is called and shown
    tables    the paper's tables; a row's `arm` and a column's `metric` put a figure beside the measured one
    claims    statements that a run can confirm or refute, each with one test

The forms of a test; what `[...]` encloses may be left out. The claim holds when

    better: {arm, metric}, worse: {arm, metric}, [margin]       the first beats the second by more than the margin
    not_worse_than: {arm, than, metric, margin}                 arm is at most the margin worse than the other
    not_better_than: {arm, than, metric, margin}                arm is at most the margin better than the other
    within: {arm, of, metric, delta}                            the two are at most delta apart, on either side
    ratio: {arm, to, metric, below | above}                     arm's figure divided by the other's lies below or above
    bound: {arm, metric, below | above}                         the arm's mean lies below or above
    value: {arm, metric, equals, tolerance}                     the arm's mean is the figure, give or take the tolerance
    reported: {cell, [to, take], below | above | equals, tolerance}
                                                                arithmetic on the paper's own tables comes out so

- Two metrics are compared by naming the second's: `than_metric`, `of_metric`, `to_metric`; `than`, `of` or `to` is left
  out where both are of one arm. That four steps are as good as twenty is
  `not_worse_than: {arm: mcm, metric: fd_4, than: teacher, than_metric: fd_20, margin: 1}`.
- Margins, delta and tolerance are in the metric's unit; "better" and "worse" follow the metric's `better`.
- A network of the recipe's `speed.py` may stand for an arm in `within`, `ratio`, `bound` and `value`,
  `{network: MobileSAM encoder, metric: params}`: it is judged, at any scale, by what `make speed` counted of the real
  architecture (`params` or `flops`).
- `cell` and `to` are `{table, row, column}` by id and labels; `take` is `difference` (cell - to), `ratio` (cell / to),
  `percent_less` or `percent_more` (of cell, compared with to).

Beside its test a claim may have

    smallest: 0.01       the smallest effect of interest: an interval that lies wholly closer than this to no effect is
                         the verdict *no difference*. With `better` a difference from 0, in the metric's unit; with
                         `ratio` a fraction (0.05: a quotient from 0.95 to 1.05); with `bound` a distance from the bound
    premise: [...]       what must be shown before the claim is judged: a list of `{arm, metric, below | above}` or of
                         tests in the forms above (but `reported`), on metrics of `validation` data or `exact` ones

A figure that is not known is `null`. Every error names the file and the key: `claims[2].better.arm: unknown arm ...`.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.judging.checked import Node, read_yaml, shown
from benchmarks.judging.forms import (
    FIGURES_OF_RUNS,
    REAL_SIZE,
    TESTS,
    Better,
    Bound,
    Measure,
    Metric,
    NotBetter,
    NotWorse,
    OnReported,
    Ratio,
    Test,
    Value,
    Within,
    measures,
    read_test,
)
from common.errors import UserError

__all__ = [  # a page's parts are found here, the forms of a test too
    "Better",
    "Bound",
    "Claim",
    "Column",
    "Measure",
    "Metric",
    "NotBetter",
    "NotWorse",
    "OnReported",
    "Paper",
    "Ratio",
    "Reported",
    "Row",
    "Source",
    "Table",
    "Test",
    "Value",
    "Within",
    "load_paper",
]

PAPERS = Path(__file__).resolve().parents[1] / "papers"
READ_IN = ("paper", "abstract", "repository")
TESTABLE = ("mini", "small", "paper")  # a rehearsal tests the machinery, never a claim


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

    def cell(self, row: Node, column: Node) -> float | str | None:
        """The figure in a row and a column, by their labels; UserError for a label that the table does not have."""
        columns = [column.label for column in self.columns]
        values = {row.label: row.values for row in self.rows}[row.known("row", [row.label for row in self.rows])]
        return values[columns.index(column.known("column", columns))]


@dataclass(frozen=True)
class Reported:
    """The figures one table gives for an arm and a metric: lowest and highest, or None where they are not known."""

    table: Table
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words.

    Attributes:
        scales: scales at which a run tests it.
        untested: for every other scale, why it is not tested there (`small`: where the recipe has it); for
            `mini-<data>` and `small-<data>`, why not with that data.
        test: None for a claim that no scale tests.
        premise: what must be confirmed before the claim is judged.
    """

    id: str
    text: str
    source: Source
    scales: tuple[str, ...]
    untested: dict[str, str]
    test: Test | None
    premise: tuple[Test, ...] = ()


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
    tables = tuple(page["tables"].items("id", partial(_table, metrics=metrics, arms=arms)))
    claim = partial(_claim, metrics=metrics, arms=arms, tables={table.id: table for table in tables})
    return Paper(
        paper=name,
        title=page["title"].text(),
        short_title=page["short_title"].text() if "short_title" in page else page["title"].text(),
        authors=page["authors"].text(),
        year=page["year"].integer(1900, 2100),
        arxiv=page["arxiv"].text_or_null(),
        official_code=page["official_code"].url_or_null(),
        licence=page["licence"].text_or_null(),
        modality=page["modality"].text(),
        summary=page["summary"].text() if "summary" in page else "",
        metrics=metrics,
        tables=tables,
        claims=tuple(page["claims"].items("id", claim)),
    )


def _metric(node: Node) -> Metric:
    node.only(*(field for field in Metric.__dataclass_fields__ if field != "name"))
    return Metric(
        name=node.key,
        label=node["label"].text(),
        unit=node["unit"].text() if "unit" in node else "",
        better=node["better"].one_of("higher", "lower", None),
        decimals=node["decimals"].integer(0, 12) if "decimals" in node else 3,
        description=node["description"].text() if "description" in node else "",
        main=node["main"].boolean() if "main" in node else False,
        exact=node["exact"].boolean() if "exact" in node else False,
        validation=node["validation"].boolean() if "validation" in node else False,
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


def _claim(node: Node, metrics: dict[str, Metric], arms: list[str], tables: dict[str, Table]) -> Claim:
    node.only("id", "text", "source", "scales", "untested", *TESTS, "worse", "margin", "smallest", "premise")
    kind = _kind_of_test(node, TESTS)
    scales = tuple(scale.one_of(*TESTABLE) for scale in node["scales"].sequence())
    untested = {reason.key: reason.text() for reason in node["untested"].mapping()} if "untested" in node else {}
    for scale in untested:
        if not scale.startswith(("mini-", "small-")):  # with another data set, by whatever name DATA= gives it
            node["untested"].choice(scale, TESTABLE)
    for scale in TESTABLE:
        if scale == "small" and scale not in (*scales, *untested):
            continue  # whether the recipe has this scale, the recipe says
        if (scale in scales) == (scale in untested):
            wrong = "both" if scale in scales else "neither"
            node.fail(f"{scale} stands in {wrong} of `scales` and `untested`; it belongs in exactly one")
    if scales and not kind:
        node.fail(f"has no test; one of {', '.join(TESTS)} is needed, or an empty `scales` with reasons in `untested`")
    if not kind:
        for key in ("worse", "margin", "smallest", "premise"):
            if key in node:
                node[key].fail("needs a test that it goes with")
    test = read_test(kind, node, metrics, arms, tables) if kind else None
    premise = tuple(_premise(item, metrics, arms) for item in node["premise"].sequence()) if "premise" in node else ()
    if premise and isinstance(test, OnReported):
        node["premise"].fail("goes with what was measured; arithmetic on reported figures has none")
    return Claim(node["id"].text(), node["text"].text(), _source(node["source"]), scales, untested, test, premise)


def _premise(node: Node, metrics: dict[str, Metric], arms: list[str]) -> Test:
    """What must hold before a claim is judged, on figures that the claim's own test does not use up."""
    if "arm" in node:
        node.only("arm", "metric", "below", "above")
        test = read_test("bound", Node({"bound": node.raw}, node.file, node.path, node.key), metrics, arms, {})
    else:
        node.only(*FIGURES_OF_RUNS, "worse", "margin")
        kind = _kind_of_test(node, FIGURES_OF_RUNS)
        if not kind:
            node.fail(f"needs an `arm` with `below` or `above`, or one of {', '.join(FIGURES_OF_RUNS)}")
        test = read_test(kind, node, metrics, arms, {})
    for measure in measures(test):
        metric = (REAL_SIZE if measure.real else metrics)[measure.metric]
        if not (metric.validation or metric.exact):
            node.fail(
                f"metric '{measure.metric}' is neither of validation data (`validation: true` in `metrics`) nor exact; "
                "a premise on test data would choose the claims that may fail"
            )
    return test


def _kind_of_test(node: Node, kinds: tuple[str, ...]) -> str | None:
    """The one form of a test that a claim or premise has, None where it has none."""
    tests = [kind for kind in kinds if kind in node]
    if len(tests) > 1:
        node.fail(f"has {len(tests)} tests ({', '.join(tests)}); a claim has one")
    return tests[0] if tests else None
