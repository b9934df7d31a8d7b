"""A recipe as plain data: arms, their stages, and what they need. Importing it loads no model library."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Scale = Literal["mini", "small", "rehearsal", "paper"]
SCALES: tuple[Scale, ...] = ("mini", "small", "rehearsal", "paper")


@dataclass(frozen=True)
class Download:
    """Something that has to be on disk before a run: at paper scale, or real data at mini or small scale.

    Attributes:
        name: what it is, for people ("SAM ViT-H weights").
        path: where it is looked for; `$DATA_ROOT` and `$WEIGHTS_ROOT` are replaced from the environment.
        source: where to get it.
        gigabytes: its size on disk; None where it is not known.
        licence: the terms it comes under.
        layout: what the folder must look like; empty for a single file.
        hub: of data at small scale: a data set of the hub that is fetched where DATA_ROOT is not given, and takes its
            place.
        files: of data at small scale: patterns of the files that are read; these are fetched, and results name them.
    """

    name: str
    path: str
    source: str
    gigabytes: float | None
    licence: str
    layout: str = ""
    hub: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubModel:
    """A pretrained model that `SCALE=small` takes from the hub.

    Attributes:
        id: on the hub, as configs name it.
        gigabytes: of what is fetched.
        licence: the terms it comes under.
    """

    id: str
    gigabytes: float
    licence: str


@dataclass(frozen=True)
class Small:
    """What `SCALE=small` needs: pretrained models, and public data.

    Attributes:
        models: all that its stages load.
        data: the data set that is read without `DATA=`.
        others: those that `DATA=` can choose.
    """

    models: tuple[HubModel, ...]
    data: Download
    others: Mapping[str, Download] = field(default_factory=dict)

    def chosen(self, data: str) -> Download:
        """The data set of a `DATA=`, empty for the default."""
        return self.others[data] if data else self.data


@dataclass(frozen=True)
class Output:
    """A file that a stage leaves in its run folder, named before the stage has run."""

    stage: "Stage"
    file: str


@dataclass(frozen=True, eq=False)
class Stage:
    """One script with its configs: `python -m <module> <run> --config <its folder>/configs/<scale>/<name>.yaml`.

    Attributes:
        name: names the config file and the run folder.
        module: the script, as `python -m` takes it.
        overrides: settings on top of the config file; an `Output` makes that stage run first.
        run: the script's subcommand.
        shared: True for a stage without a seed of its own (a foundation, precomputed features): it runs once.
        base: names a config beside the stage's, read before it where it is there: what several stages have in common.
    """

    name: str
    module: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    run: Literal["fit", "validate", "test", "predict"] = "fit"
    shared: bool = False
    base: str = "base"

    @property
    def weights(self) -> Output:
        """The trained weights, written when a `fit` ends."""
        return Output(self, "weights.safetensors")

    def output(self, file: str) -> Output:
        """Any other file or folder the stage writes, relative to its run folder."""
        return Output(self, file)

    def upstream(self) -> list["Stage"]:
        """The stages whose outputs this one reads."""
        return list(dict.fromkeys(value.stage for value in self.overrides.values() if isinstance(value, Output)))

    def config(self, scale: Scale, data: str = "") -> list[Path]:
        """Config files relative to the project's root, later ones on top of earlier ones; the first to be named after
        the stage has to exist, the others may.

        `rehearsal` runs the paper's configs, with an override where an architecture's size is fixed by its name.
        """
        folder = Path(*self.module.split(".")[:-1]) / "configs"
        folders = [folder / "paper", folder / "rehearsal"] if scale == "rehearsal" else [folder / scale]
        folders += [folder / scale / data] if data else []
        return [place / f"{name}.yaml" for place in folders for name in (self.base, self.name)]


@dataclass(frozen=True)
class Arm:
    """A row of the comparison. The last stage yields its metrics; all stages add to its cost."""

    stages: list[Stage]
    description: str
    method: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything the harness needs to know of a paper.

    Attributes:
        title: the paper's short name.
        modality: what kind of data it is about, for the list.
        arms: the arms at a scale, in the order of the table.
        data: data sets that `DATA=` can choose at mini scale beside the default, each with what it is and where it
            comes from.
        arms_with: the arms at mini scale with one of these, by its name; None where they are those of the default.
        downloads: what `SCALE=paper` needs.
        small: what `SCALE=small` needs; None where the recipe has no such scale.
        disk: gigabytes that a paper-scale run itself writes.
        stand_ins: `module:function` that writes the rehearsal's stand-ins into a folder: `data/`, `weights/` and
            `hub/`, which become DATA_ROOT, WEIGHTS_ROOT and HF_HOME.
        gpu: the GPU that the paper's configs are written for, by its name in benchmarks/planning/gpus.yaml: every stage
            fits its memory.
        paper_on_cpu: the paper's scale needs no GPU.
        plan: `module:function` that describes a stage to the planner: (stage, config) -> `common.workload.Workload`.
        speed: `module:function` that says what the speed bench measures: () -> `common.workload.Speed`.
    """

    title: str
    modality: str
    arms: Callable[[Scale], dict[str, Arm]]
    data: Mapping[str, Download] = field(default_factory=dict)
    arms_with: Callable[[str], dict[str, Arm]] | None = None
    downloads: tuple[Download, ...] = ()
    small: Small | None = None
    disk: float = 0.0
    stand_ins: str = ""
    gpu: str = "h100"
    paper_on_cpu: bool = False
    plan: str = ""
    speed: str = ""

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The scales that the recipe has."""
        return tuple(scale for scale in SCALES if scale != "small" or self.small)

    def arms_for(self, scale: Scale, data: str = "") -> dict[str, Arm]:
        """The arms at a scale, with a data set of `DATA=` or the default."""
        return self.arms_with(data) if data and scale == "mini" and self.arms_with else self.arms(scale)

    def data_for(self, scale: Scale) -> Mapping[str, Download]:
        """What `DATA=` can choose at a scale."""
        if scale == "small":
            return self.small.others if self.small else {}
        return self.data if scale == "mini" else {}


def walk(stages: list[Stage]) -> Iterator[Stage]:
    """Stages and everything upstream of them, each once, in an order in which they can run."""
    seen: set[Stage] = set()

    def visit(stage: Stage) -> Iterator[Stage]:
        if stage not in seen:
            seen.add(stage)
            for before in stage.upstream():
                yield from visit(before)
            yield stage

    for stage in stages:
        yield from visit(stage)
