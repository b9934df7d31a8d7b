"""What W&B knows of a paper's runs: from its server, or from the offline files in the run folders."""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wandb
from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

from benchmarks.running.schemas import LARGEST
from common.errors import UserError
from common.training.tracking import PROJECT

STEP = "trainer/global_step"
BLOCK = 32768


@dataclass
class LoggedRun:
    """A stage's run: what it belongs to and what it logged.

    Attributes:
        scale: `mini`, `mini-coco`, `paper`: the group's second part.
        started: seconds since 1970 of its latest attempt.
        summary: the last value of every metric, under the name it was logged by ("test/miou").
        curves: values by training step.
        commit: of the project's source; `remote` is where that was cloned from. Empty where W&B does not know.
    """

    paper: str
    scale: str
    arm: str
    seed: str
    stage: str
    started: float
    summary: dict[str, float] = field(default_factory=dict)
    curves: dict[str, dict[float, float]] = field(default_factory=dict)
    commit: str = ""
    remote: str = ""

    def log(self, row: dict[str, Any]) -> None:
        """Take in a row of the history; a resumed run repeats some, of which the later counts."""
        step = number(row.get(STEP))
        for name, found in row.items():
            value = number(found)
            if value is not None and "/" in name and name != STEP:
                self.summary[name] = value
                if step is not None:
                    self.curves.setdefault(name, {})[step] = value


def number(value: Any) -> float | None:
    """What was logged, where it is a figure to reckon with."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        return None
    return value


def offline(folder: Path) -> list[LoggedRun]:
    """The runs below a folder, the attempts of one put together; stale ones (other settings since) are left out."""
    attempts = []
    for file in folder.glob("**/wandb/*run-*/*.wandb"):
        found = list(records(file))
        starts = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        if starts and (run := _begin(starts[0])) is not None:
            attempts.append((run, [record.history for record in found if record.HasField("history")], file.parents[2]))
    merged: dict[Path, LoggedRun] = {}
    for run, history, run_dir in sorted(attempts, key=lambda attempt: attempt[0].started):
        known = merged.setdefault(run_dir, run)
        known.started = run.started
        for row in history:
            known.log({item.key or "/".join(item.nested_key): _value(item.value_json) for item in row.item})
    return newest(list(merged.values()))


def _value(text: str) -> Any:
    """What a text of JSON says; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def online(entity: str, paper: str) -> list[LoggedRun]:
    """The runs of a paper on W&B's server."""
    found = []
    for run in wandb.Api().runs(f"{entity}/{PROJECT}", filters={"group": {"$regex": f"^{re.escape(paper)}/"}}):
        if "/" not in run.name:
            continue  # renamed by hand
        arm, seed = run.name.rsplit("/", 1)
        logged = LoggedRun(paper, run.group.split("/", 1)[1], arm, seed, run.job_type, wandb_time(run.created_at))
        for row in run.scan_history():
            logged.log(row)
        logged.commit = run.commit or ""
        logged.remote = (run.metadata or {}).get("git", {}).get("remote", "")
        found.append(logged)
    return newest(found)


def newest(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Of several runs of one arm, stage and seed, the latest."""
    runs = sorted(runs, key=lambda run: run.started)
    return list({(run.paper, run.scale, run.arm, run.stage, run.seed): run for run in runs}.values())


def wandb_time(text: str) -> float:
    """Seconds since 1970 of a time that W&B's server gives."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC).timestamp()


def records(file: Path) -> Iterator[Record]:
    """Records of an offline file, as far as it is whole: protobuf messages in a LevelDB log, after a header of 7 bytes.

    The log is cut into blocks; a piece of a record is its checksum (4 bytes), length (2), kind (whole, first, middle,
    last) and content, and never crosses a block's end.
    """
    try:
        content = file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    if not content.startswith(b":W&B"):
        return
    position, collected = 7, b""
    while position + 7 <= len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        collected += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4) and position <= len(content):
            record = Record()
            try:
                record.ParseFromString(collected)
            except DecodeError:
                return
            yield record
            collected = b""


def _begin(run: Any) -> LoggedRun | None:
    """What a run's first record says; None for a run of no paper, started by hand."""
    if "/" not in run.run_group or "/" not in run.display_name:
        return None
    paper, scale = run.run_group.split("/", 1)
    arm, seed = run.display_name.rsplit("/", 1)
    started = run.start_time.seconds + run.start_time.nanos / 1e9
    return LoggedRun(paper, scale, arm, seed, run.job_type, started, commit=run.git.commit, remote=run.git.remote_url)
