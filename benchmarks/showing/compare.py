"""A user's results beside the reference: the same verdicts or others, figures within the reference's spread or not."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.judging.tables import Metric

Place = Literal["within", "outside", "equal", "other"]
WORDS: dict[Place, str] = {
    "within": "within the reference's spread",
    "outside": "outside the reference's spread",
    "equal": "equal to the reference",
    "other": "another figure than the reference's one",
}


@dataclass(frozen=True)
class Comparison:
    """What differs from the reference.

    Attributes:
        verdicts: claim -> (here, reference), of the claims that both have tested.
        other_code: arms whose stages have other fingerprints than the reference's.
    """

    verdicts: dict[str, tuple[str, str]]
    other_code: list[str]

    @property
    def differing(self) -> dict[str, tuple[str, str]]:
        return {claim: pair for claim, pair in self.verdicts.items() if pair[0] != pair[1]}

    def sentence(self) -> str:
        """`7 of 8 verdicts agree with the reference; C3: inconclusive here, confirmed there`."""
        if not self.verdicts:
            return "no claim was tested both here and in the reference"
        agree = len(self.verdicts) - len(self.differing)
        words = [f"{agree} of {len(self.verdicts)} verdicts agree with the reference"]
        words += [f"{claim}: {here} here, {there} there" for claim, (here, there) in self.differing.items()]
        if self.other_code:
            words.append(f"the reference is of other code or settings for {', '.join(self.other_code)}")
        return "; ".join(words)


def compare(found: dict[str, Any], reference: dict[str, Any]) -> Comparison:
    """A user's results and the reference, both with their verdicts."""
    there = {verdict["claim"]: verdict["status"] for verdict in reference["verdicts"]}
    both = {
        verdict["claim"]: (verdict["status"], there[verdict["claim"]])
        for verdict in found["verdicts"]
        if verdict["claim"] in there and "untested" not in (verdict["status"], there[verdict["claim"]])
    }
    arms = [name for name in found["arms"] if name in reference["arms"]]
    return Comparison(both, [name for name in arms if _stages(found, name) != _stages(reference, name)])


def place(values: list[float], reference: list[float], metric: Metric) -> Place | None:
    """Whether a mean lies where the mean of so many seeds of the reference's kind is expected, at 95 %.

    A reference that does not vary, or has one seed, has no spread: then figures are equal, to the digits shown, or not.
    None where one side has no finite figures.
    """
    mine, theirs = ([v for v in side if math.isfinite(v)] for side in (values, reference))
    if not mine or not theirs:
        return None
    distance = abs(statistics.fmean(mine) - statistics.fmean(theirs))
    if len(theirs) < 2 or len(set(theirs)) == 1:
        return "equal" if distance <= max(0.5 * 10.0**-metric.decimals, 1e-3 * abs(theirs[0])) else "other"
    from scipy.special import stdtrit  # here, because `make list` starts without scipy

    quantile = float(stdtrit(len(theirs) - 1, 0.975))
    allowed = quantile * statistics.stdev(theirs) * math.sqrt(1 / len(mine) + 1 / len(theirs))
    return "within" if distance <= allowed else "outside"


def figures(found: dict[str, Any], reference: dict[str, Any], metrics: list[Metric]) -> dict[tuple[str, str], Place]:
    """Where each arm's figure of each metric stands, by (arm, metric)."""
    places = {}
    for name in found["arms"]:
        for metric in metrics:
            here, there = (
                [seed[metric.name] for seed in side.get(name, {"seeds": {}})["seeds"].values() if metric.name in seed]
                for side in (found["arms"], reference["arms"])
            )
            if (where := place(here, there, metric)) is not None:
                places[name, metric.name] = where
    return places


def _stages(found: dict[str, Any], arm: str) -> list[str]:
    return [stage["fingerprint"] for stage in found["arms"][arm].get("stages", [])]
