"""The forms of a claim's test, as data, and how they are read from a page; `tables.py` lists them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from benchmarks.judging.checked import LARGEST, Node


@dataclass(frozen=True)
class Metric:
    """How a measured figure is shown.

    Attributes:
        unit: "" for a plain number, "count" for numbers shown as 5.74 M, else the unit's sign ("ms").
        better: which direction is better; None where neither is.
        decimals: digits after the point of a measured figure.
        main: shown in the terminal's table and first in the report.
        exact: counted, the same for every seed: one seed decides a claim about it.
        validation: measured on validation data, so that a premise may rest on it.
    """

    name: str
    label: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    decimals: int = 3
    description: str = ""
    main: bool = False
    exact: bool = False
    validation: bool = False


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
    smallest: float | None = None


@dataclass(frozen=True)
class NotWorse:
    """`not_worse_than: {arm, than, metric, margin}`: arm is at most margin worse than the other."""

    a: Measure
    b: Measure
    margin: float


@dataclass(frozen=True)
class NotBetter:
    """`not_better_than: {arm, than, metric, margin}`: arm is at most margin better than the other."""

    a: Measure
    b: Measure
    margin: float


@dataclass(frozen=True)
class Within:
    """`within: {arm, of, metric, delta}`: the two differ by at most delta."""

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
    smallest: float | None = None


@dataclass(frozen=True)
class Bound:
    """`bound: {arm, metric, below | above}`: an arm's figure lies below or above a bound."""

    a: Measure
    below: float | None = None
    above: float | None = None
    smallest: float | None = None


@dataclass(frozen=True)
class Value:
    """`value: {arm, metric, equals, tolerance}`: an arm's figure is the reported one, give or take the tolerance."""

    a: Measure
    equals: float
    tolerance: float


@dataclass(frozen=True)
class Cell:
    """A figure of one of the paper's tables."""

    table: str
    row: str
    column: str
    value: float


Arithmetic = Literal["difference", "ratio", "percent_less", "percent_more"]
ARITHMETIC: tuple[Arithmetic, ...] = ("difference", "ratio", "percent_less", "percent_more")


@dataclass(frozen=True)
class OnReported:
    """`reported: {cell, to, take, below | above | equals + tolerance}`: arithmetic on the paper's own figures.

    Attributes:
        to: what the cell is compared with; None for a claim about the cell itself.
        take: what is made of the two; None where there is only one.
    """

    cell: Cell
    to: Cell | None = None
    take: Arithmetic | None = None
    below: float | None = None
    above: float | None = None
    equals: float | None = None
    tolerance: float = 0.0

    def figure(self) -> float:
        """What comes out, without the last bits that arithmetic on decimals leaves behind."""
        a = self.cell.value
        if self.to is None:
            return a
        b = self.to.value
        results = {"difference": a - b}
        if b:
            results |= {"ratio": a / b, "percent_less": 100 * (1 - a / b), "percent_more": 100 * (a / b - 1)}
        return float(f"{results[self.take or 'difference']:.12g}")


Test = Better | NotWorse | NotBetter | Within | Ratio | Bound | Value | OnReported
TESTS = ("better", "not_worse_than", "not_better_than", "within", "ratio", "bound", "value", "reported")
FIGURES_OF_RUNS = tuple(kind for kind in TESTS if kind != "reported")


def measures(test: Test) -> list[Measure]:
    """What a test compares, in the order of its effect; nothing measured for arithmetic on reported figures."""
    if isinstance(test, OnReported):
        return []
    if isinstance(test, Better):
        return [test.better, test.worse]
    return [test.a] if isinstance(test, Bound | Value) else [test.a, test.b]


def claimed_range(test: Test) -> tuple[float, float]:
    """Where a test says that its effect lies."""
    if isinstance(test, Better):
        return test.margin, math.inf
    if isinstance(test, NotWorse):
        return -test.margin, math.inf
    if isinstance(test, NotBetter):
        return -math.inf, test.margin
    if isinstance(test, Within):
        return -test.delta, test.delta
    if isinstance(test, Value | OnReported) and test.equals is not None:
        return test.equals - test.tolerance, test.equals + test.tolerance
    assert not isinstance(test, Value)
    return (-math.inf if test.above is None else test.above), (math.inf if test.below is None else test.below)


def has_its_ends(test: Test) -> bool:
    """Whether the ends of the claimed range belong to it: "at most" against "more than"."""
    if isinstance(test, OnReported):
        return test.equals is not None
    return isinstance(test, Within | Value | NotWorse | NotBetter)


def negligible_range(test: Test) -> tuple[float, float] | None:
    """Where an effect is smaller than the smallest of interest, ends excluded; None for a test without one."""
    if not isinstance(test, Better | Ratio | Bound) or test.smallest is None:
        return None
    middle = 0.0
    if isinstance(test, Ratio):
        middle = 1.0
    elif isinstance(test, Bound):
        middle = test.below if test.above is None else test.above  # type: ignore[assignment]
    return middle - test.smallest, middle + test.smallest


class HasCells(Protocol):
    """What a claim about reported figures needs of a table: `Table` has it."""

    @property
    def id(self) -> str: ...

    def cell(self, row: Node, column: Node) -> float | str | None:
        """The figure in a row and a column, by their labels; UserError for a label that the table does not have."""


def read_test(
    kind: str, claim: Node, metrics: Mapping[str, Metric], arms: Iterable[str], tables: Mapping[str, HasCells]
) -> Test:
    """The test of a claim or premise, from its key `kind` and those that go with it."""
    node = claim[kind]
    if kind != "better":
        for key in ("worse", "margin"):
            if key in claim:
                claim.fail("`worse` and `margin` go with `better`")
    if "smallest" in claim and kind not in ("better", "ratio", "bound"):
        claim.fail("`smallest` goes with `better`, `ratio` and `bound`; the other tests have margins of their own")
    smallest = _positive(claim["smallest"]) if "smallest" in claim else None

    if kind == "reported":
        return _reported(node, tables)
    if kind == "better":
        node.only("arm", "metric")
        claim["worse"].only("arm", "metric")
        better, worse = _measure(node, metrics, arms), _measure(claim["worse"], metrics, arms)
        _same_direction(claim, kind, better, worse, metrics)
        return Better(better, worse, claim["margin"].number(low=0) if "margin" in claim else 0.0, smallest)
    if kind in ("not_worse_than", "not_better_than"):
        a, b = _two(node, "than", metrics, arms, "margin")
        _same_direction(node, kind, a, b, metrics)
        return (NotWorse if kind == "not_worse_than" else NotBetter)(a, b, node["margin"].number(low=0))
    if kind == "within":
        a, b = _two(node, "of", metrics, arms, "delta")
        return Within(a, b, node["delta"].number(low=0))
    if kind == "value":
        node.only("arm", "network", "metric", "equals", "tolerance")
        return Value(_measure(node, metrics, arms), node["equals"].number(), node["tolerance"].number(low=0))
    if kind == "bound":
        node.only("arm", "network", "metric", "below", "above")
        return Bound(_measure(node, metrics, arms), **_one_side(node, -LARGEST), smallest=smallest)
    a, b = _two(node, "to", metrics, arms, "below", "above")
    if smallest is not None and smallest >= 1:
        claim["smallest"].fail("must be a fraction below 1 with `ratio`: 0.05 stands for a quotient from 0.95 to 1.05")
    return Ratio(a, b, **_one_side(node, 0.0), smallest=smallest)


def _measure(node: Node, metrics: Mapping[str, Metric], arms: Iterable[str]) -> Measure:
    if "network" in node:
        return Measure(node["network"].text(), node["metric"].known("metric", REAL_SIZE), real=True)
    return Measure(node["arm"].known("arm", arms), node["metric"].known("metric", metrics))


def _two(
    node: Node, other: str, metrics: Mapping[str, Metric], arms: Iterable[str], *numbers: str
) -> tuple[Measure, Measure]:
    """Two arms by one metric, two metrics of one arm, or both; `other` is the key that names the second arm."""
    second = f"{other}_metric"
    node.only("arm", "network", "metric", other, second, *numbers)
    first = _measure(node, metrics, arms)
    if other not in node and second not in node:
        node.fail(f"'{other}' is missing: the arm to compare with (or '{second}', another metric of the same arm)")
    if first.real:
        name = node[other].text() if other in node else first.arm
        metric = node[second].known("metric", REAL_SIZE) if second in node else first.metric
    else:
        name = node[other].known("arm", arms) if other in node else first.arm
        metric = node[second].known("metric", metrics) if second in node else first.metric
    compared = Measure(name, metric, first.real)
    if compared == first:
        node.fail("compares a figure with itself")
    return first, compared


def _same_direction(node: Node, kind: str, a: Measure, b: Measure, metrics: Mapping[str, Metric]) -> None:
    if a.real or b.real or metrics[a.metric].better is None or metrics[a.metric].better != metrics[b.metric].better:
        node.fail(f"`{kind}` needs metrics that say, alike, which direction is better")


def _one_side(node: Node, lowest: float) -> dict[str, Any]:
    if ("below" in node) == ("above" in node):
        node.fail("needs exactly one of `below` and `above`")
    return {side: node[side].number(low=lowest) for side in ("below", "above") if side in node}


def _positive(node: Node) -> float:
    value = node.number(low=0)
    if value == 0:
        node.fail("must be more than 0: the smallest effect that would matter")
    return value


def _reported(node: Node, tables: Mapping[str, HasCells]) -> OnReported:
    node.only("cell", "to", "take", "below", "above", "equals", "tolerance")
    cell = _cell(node["cell"], tables)
    to = _cell(node["to"], tables) if "to" in node else None
    if (to is None) != ("take" not in node):
        node.fail(f"`to` and `take` ({', '.join(ARITHMETIC)}) go together")
    take = node["take"].one_of(*ARITHMETIC) if to is not None else None
    if to is not None and take != "difference" and to.value == 0:
        node["to"].fail("is 0, by which nothing can be divided")
    if "equals" in node:
        if "below" in node or "above" in node:
            node.fail("needs one of `below`, `above` and `equals`")
        return OnReported(cell, to, take, equals=node["equals"].number(), tolerance=node["tolerance"].number(low=0))
    if "tolerance" in node:
        node.fail("`tolerance` goes with `equals`")
    return OnReported(cell, to, take, **_one_side(node, -LARGEST))


def _cell(node: Node, tables: Mapping[str, HasCells]) -> Cell:
    node.only("table", "row", "column")
    table = tables[node["table"].known("table", tables)]
    value = table.cell(node["row"], node["column"])
    if not isinstance(value, int | float):
        node.fail("holds no number: " + ("the figure is not known (null)" if value is None else f"'{value}' is text"))
    return Cell(table.id, node["row"].text(), node["column"].text(), value)
