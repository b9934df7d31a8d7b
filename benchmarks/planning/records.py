"""Costs that were counted before: a recipe's record, benchmarks/plans/<paper>.json, and a user's own beside the runs.

Counting takes a recipe up to a minute, and what is counted does not depend on the GPU. A cost holds for what it follows
from: the settings that the recipe's hook reads of a stage's config, the code that describes and counts, and the first
two numbers of the versions of the libraries that networks come from. Settings that nobody reads (rates, weights of
losses, paths) change nothing, so that arms which differ in these alone share a cost.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from benchmarks.planning.cost import Cost
from benchmarks.planning.reading import agrees
from benchmarks.running import recipes
from common.data.files import write_atomic
from common.schemas import STRICT, Text, parse
from common.training.runs import updating

FOLDER = recipes.ROOT / "benchmarks" / "plans"
LIBRARIES = ("torch", "torchvision", "transformers", "diffusers", "peft", "timm", "open_clip_torch", "segment-anything")
COUNTING = (
    "benchmarks.planning.meter",
    "benchmarks.planning.memo",
    "benchmarks.planning.cost",
    "benchmarks.planning.reading",
)


@schema(frozen=True, config=STRICT)
class Counted:
    """The cost of every stage of this name that reads the same.

    Attributes:
        read: what the hook read of the config (`benchmarks.planning.reading`).
    """

    stage: Text
    run: Text
    precision: Text
    read: dict[Text, Any]
    cost: Cost


@schema(frozen=True, config=STRICT)
class Record:
    """Attributes:
    code: digest of the project's code that was run.
    versions: of the libraries, their first two numbers.
    """

    code: Text
    versions: dict[Text, Text]
    stages: tuple[Counted, ...] = ()


RECORD = TypeAdapter(Record)


def path(paper: str) -> Path:
    """A recipe's committed record."""
    return FOLDER / f"{paper}.json"


def own(paper: str, runs: Path) -> Path:
    """What a user has counted beyond it."""
    return runs / paper / "plan.json"


def present(hook: str) -> Record:
    """An empty record of the code and the libraries as they are, of a recipe's hook `module:function`."""
    versions = {name: ".".join(metadata.version(name).split(".")[:2]) for name in LIBRARIES}
    return Record(recipes.code_digest([hook.partition(":")[0], *COUNTING]), versions)


def read(file: Path) -> Record | None:
    """A record; None where there is none, or none that can be read."""
    try:
        return parse(RECORD, file.read_bytes())
    except (OSError, ValueError):
        return None


def write(file: Path, record: Record) -> None:
    """Write a record, a line per stage."""
    content = asdict(record)
    stages = ",\n".join(json.dumps(stage) for stage in content.pop("stages"))
    head = json.dumps(content, indent=1).removesuffix("\n}")
    write_atomic(file, f'{head},\n "stages": [\n{stages}\n]}}\n'.encode())


@dataclass
class Costs:
    """The costs of a recipe's stages, from records and as they are counted.

    Attributes:
        now: what a record must hold for.
        known: costs that do.
        new: those of them that were counted by this process.
    """

    now: Record
    known: list[Counted] = field(default_factory=list)
    new: list[Counted] = field(default_factory=list)

    def take(self, file: Path) -> None:
        """Take over what a file has, where it holds for the present code and libraries."""
        record = read(file)
        if record and (record.code, record.versions) == (self.now.code, self.now.versions):
            self.known += record.stages

    def find(self, stage: str, run: str, precision: str, config: dict[str, Any]) -> Counted | None:
        """The cost of a stage with this config, where it is known."""
        same = (one for one in self.known if (one.stage, one.run, one.precision) == (stage, run, precision))
        return next((one for one in same if agrees(config, one.read)), None)

    def add(self, counted: Counted) -> None:
        self.known.append(counted)
        self.new.append(counted)

    def keep(self, file: Path) -> None:
        """Add what was counted to a file; what it has for other code is dropped."""
        with updating(file):
            before = Costs(self.now)
            before.take(file)
            counted = {_question(one) for one in self.new}
            others = [one for one in before.known if _question(one) not in counted]
            write(file, replace(self.now, stages=(*others, *self.new)))


def _question(counted: Counted) -> str:
    return json.dumps([counted.stage, counted.run, counted.precision, counted.read], sort_keys=True)
