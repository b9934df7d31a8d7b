"""What a recipe tells about its real architectures: to `make plan` and to `make speed`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Workload:
    """A stage at paper scale: what is on the device, and what a step does with it.

    A recipe's `plan` names a function `(stage, config) -> Workload`; config is the paper's config with the stage's
    overrides. It runs with the meta device as default, so networks cost nothing and have no values.

    Attributes:
        model: every network on the device; parameters that require gradients are trained.
        step: the forward pass for a batch of n made-up samples; returns the loss that backward starts from (anything
            where nothing is trained). It may not look at values.
        batch: samples per step and device.
        samples: in the data that the stage goes over.
        unit: what a sample is.
        optimizer_bytes: optimiser state per trained parameter; 8 for Adam's two float32 moments.
        fused: whether the optimiser updates the parameters in one kernel; torch's default for AdamW has temporary
            tensors as large as the gradients.
        loader_seconds: CPU seconds of one loader process for one sample; None where nobody has measured it.
        workers: loader processes per device.
        reported: what the paper says this stage cost, and where; empty where it says nothing.
    """

    model: nn.Module
    step: Callable[[int], Any]
    batch: int
    samples: int
    unit: str = "image"
    optimizer_bytes: int = 8
    fused: bool = False
    loader_seconds: float | None = None
    workers: int = 0
    reported: str = ""


@dataclass(frozen=True)
class Network:
    """A network whose size and speed the paper speaks of, at its real size with random weights.

    Attributes:
        name: for people ("SAM ViT-H encoder").
        build: makes the network in evaluation mode and the inputs of one call.
        against: name of the network that it is compared with: how many times this one is smaller and faster.
        onnx: writes the network as an ONNX file whose inputs are those of its call, in order; None for no such variant.
        giant: only the plain network is measured, not its compiled and exported variants.
        reported: what the paper says, `params` (count) and `ms`, a figure each; missing where it says nothing.
        source: where it says so.
    """

    name: str
    build: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]
    against: str = ""
    onnx: Callable[[nn.Module, Path], None] | None = None
    giant: bool = False
    reported: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Training:
    """A mini-scale training, as a stage and as the loop that a user would write by hand: the overhead of our layers.

    Attributes:
        prepare: writes what both read into an empty folder.
        command: from that folder to the stage's command line, as after `python -m`.
        bare: from that folder to a function that takes one step, without Lightning and without our command line.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    bare: Callable[[Path], Callable[[], None]]


@dataclass(frozen=True)
class Source:
    """Samples as a loader's process reads them.

    Attributes:
        name: for people ("world of shapes, 64 pixels").
        build: writes what is read into an empty folder and returns how sample i is read, for i = 0, 1, 2, ...
    """

    name: str
    build: Callable[[Path], Callable[[int], Any]]


@dataclass(frozen=True)
class Speed:
    """What `make speed` measures of a recipe. A recipe's `speed` names a function `() -> Speed`."""

    networks: tuple[Network, ...]
    sources: tuple[Source, ...] = ()
    training: Training | None = None
