"""What a step of a stage takes, whatever the GPU: its operations, and its memory at every batch.

It is what `benchmarks.planning.meter` counts, what a record keeps, and what a plan is made from.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from benchmarks.planning.gpus import Gpu
from common.schemas import STRICT, Amount, Text

LAUNCH = 5e-6  # seconds: a kernel's launch from eager PyTorch, which no operation undercuts

Arithmetic = Literal["bf16", "tf32", "fp32"]
"""Which of a GPU's peaks an operation runs at; half precision of either kind has the same."""
Coefficient = Annotated[float, Field(ge=-1e30, le=1e30)]
Polynomial = tuple[Coefficient, Coefficient, Coefficient]
"""Bytes at a batch of n: a + b n + c n^2."""
Moments = Annotated[tuple[Polynomial, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10**30)]
Positive = Annotated[int, Field(ge=1, le=10**30)]


class Operation(NamedTuple):
    """Operations of a step that are alike: each has `flop` operations, moves `traffic` bytes, and occurs `times`."""

    arithmetic: Arithmetic
    flop: Count
    traffic: Count
    times: Positive


@dataclass(frozen=True, config=STRICT)
class Memory:
    """The moments of a step that are its worst at some batch: bytes that are held beside weights and optimiser.

    Attributes:
        forward: in the forward pass, without gradients.
        backward: in the backward pass, the gradients made so far among them.
        beside: in a backward pass into gradients that are there already, without these.
    """

    forward: Moments
    backward: Moments
    beside: Moments


@dataclass(frozen=True, config=STRICT)
class Cost:
    """A step of `batch` samples on one device, without the optimiser's own work, and the networks it needs.

    Attributes:
        trained, frozen: numbers in parameters, a shared one once.
        weights: bytes of all parameters and buffers.
        gradients: bytes of the trained parameters.
        forward, backward: FLOP of a step's two halves.
    """

    trained: Count
    frozen: Count
    weights: Count
    gradients: Count
    batch: Positive
    forward: Count
    backward: Count
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
    memory: Memory
    samples: Count
    unit: Text
    optimizer_bytes: Count
    fused: bool
    loader_seconds: Amount | None
    workers: Count
    reported: Text

    def seconds(self, card: Gpu, utilisation: float) -> dict[str, float]:
        """How long a step's operations take, by what bounds them: the longest of arithmetic, traffic and launch."""
        found = {"arithmetic": 0.0, "memory": 0.0, "launch": 0.0}
        for operation in self.operations:
            times = {
                "arithmetic": operation.flop / (getattr(card, operation.arithmetic) * 1e12 * utilisation),
                "memory": operation.traffic / (card.bandwidth * 1e9 * utilisation),
                "launch": LAUNCH,
            }
            bound = max(times, key=lambda name: times[name])
            found[bound] += operation.times * times[bound]
        return found


def largest(moments: Moments, batch: int) -> int:
    """Bytes at the worst of some moments of a step of `batch` samples."""
    return round(max(a + b * batch + c * batch * batch for a, b, c in moments))
