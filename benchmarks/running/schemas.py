"""What the harness's own files must hold: results, speeds, and the record of submitted jobs.

A user may have edited one, a disk may have cut one off, another version may have written one: they are checked once, as
they are read, so that nothing after that need ask.
"""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass as schema

from common.recipe import Scale
from common.schemas import STRICT, Amount, Text

LARGEST = 1e100
"""Of a figure: the square of what is larger has no end."""


def _is_figure(value: float) -> float:
    if math.isfinite(value) and abs(value) > LARGEST:
        raise ValueError(f"a figure is at most {LARGEST:g}, or not finite")
    return value


Figure = Annotated[float, AfterValidator(_is_figure)]
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$", max_length=150)]
"""What is part of a path."""
Seed = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,9})$")]


@schema(config=STRICT)
class Stage:
    stage: Name
    module: Text
    fingerprint: Name
    command: Text
    seconds: Amount | None
    shared: bool = False
    cpu_seconds: Amount | None = None


@schema(config=STRICT)
class Arm:
    method: bool
    description: Text
    stages: list[Stage]
    seeds: dict[Seed, dict[Text, Figure]]


@schema(config=STRICT)
class Verdict:
    claim: Text
    status: Literal["confirmed", "refuted", "no difference", "inconclusive", "untested"]
    reason: Text
    estimate: Figure | None
    low: Figure | None
    high: Figure | None
    kind: Text | None = None
    unit: Text = ""
    seeds: Annotated[int, Field(ge=0)] = 0
    threshold: Figure | None = None
    look: int | None = None
    alpha: Figure | None = None
    exact: bool = False
    shared: list[Text] = Field(default_factory=list)
    needs: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _two_ends(self) -> "Verdict":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        return self


@schema(config=STRICT)
class Results:
    paper: Name
    scale: Scale
    data: Name
    created: Text
    command: Text
    versions: dict[Text, Text]
    hardware: dict[Text, Text | Figure | None]
    stage_seconds: Amount
    arms: dict[Text, Arm]
    cpu_seconds: Amount = 0.0
    plan: Literal["auto"] | list[Annotated[int, Field(ge=0, le=10**10)]] = "auto"
    judged_by: Text = ""
    verdicts: list[Verdict] = Field(default_factory=list)
    same_seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    origins: dict[Text, dict[Text, Text]] = Field(default_factory=dict)


@schema(config=STRICT)
class Variant:
    """How fast a network is in one way of running it; or why it does not run so."""

    error: Text = ""
    median_ms: Amount | None = None
    p95_ms: Amount | None = None
    calls: Amount | None = None
    peak_bytes: Amount | None = None
    processor_ms: Amount | None = None

    @model_validator(mode="after")
    def _measured_or_not(self) -> "Variant":
        if not self.error and None in (self.median_ms, self.p95_ms, self.calls, self.peak_bytes):
            raise ValueError("holds neither figures nor an error")
        return self


@schema(config=STRICT)
class Network:
    flops: Amount
    against: Text
    variants: dict[Text, Variant]
    reported: dict[Text, Figure]
    source: Text
    params: Amount | None = None
    ratios: dict[Text, Figure] = Field(default_factory=dict)


@schema(config=STRICT)
class Networks:
    found: dict[Text, Network]


@schema(config=STRICT)
class Part:
    """Another part of a speed file, which is shown as it is."""

    found: dict[Text, object] | None


@schema(config=STRICT)
class Speed:
    paper: Name
    networks: Networks | None = None
    training: Part | None = None
    sources: Part | None = None
    start: Part | None = None


@schema(config=STRICT)
class Submitted:
    """A job that SLURM was given. `tasks`: run folders by seed; the table has none."""

    job: Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
    array: bool
    stage: Name
    arms: list[Text]
    fingerprint: Text
    tasks: dict[Seed, Text]
    after: list[Text]
    script: Text


@schema(config=STRICT)
class Progress:
    """Where a running stage stands. `total`: steps, where their number is known."""

    step: Annotated[int, Field(ge=0, le=10**15)]
    total: Amount | None
    loss: float | None
    seconds_left: Annotated[float, Field(ge=-1e30, le=1e30)] | None


RESULTS = TypeAdapter(Results)
SPEED = TypeAdapter(Speed)
SUBMITTED = TypeAdapter(list[Submitted])
PROGRESS = TypeAdapter(Progress)
