"""A stage's run folder: its lock, its pictures, its record. Everything in it is written by the stage itself.

config.yaml              the merged configuration
checkpoints/step=N.ckpt  the two newest
weights.safetensors      what later stages read, written when a fit ends
curves/version_K/        metrics.csv of attempt K
pictures/                PNG files, some with a twin for dark pages, and index.json
axes.json                what a logged series runs along, where it is not the step
progress.json            where a running stage stands
done.json                metrics, cost, versions, hardware; its presence means: finished
"""

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import yaml
from PIL import Image
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import shown, write_atomic
from common.errors import UserError
from common.schemas import STRICT, Amount, Text, checked
from common.visual import Themed

T = TypeVar("T")
INDEXED = {"key": str, "file": str, "caption": str, "reference": bool}  # of a picture, in pictures/index.json


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for this process; a second one says so and waits. A lock does not outlive its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            print(
                f"{what} is already running (process {handle.read().strip() or '?'}); waiting for it",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def updating(file: Path) -> Iterator[None]:
    """Hold a file that several commands read, add to and write, for the time of one of them; the others wait.

    The lock is a hidden file beside it: the file itself is replaced when it is written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _held(file.with_name(f".{file.name}.lock")) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


_locks: set[IO[str]] = set()


@contextmanager
def _held(file: Path) -> Iterator[IO[str]]:
    """A file to lock. Processes that are forked meanwhile let go of it: they may live longer, and would hold it too."""
    with open(file, "a+", encoding="utf-8") as handle:
        _locks.add(handle)
        try:
            yield handle
        finally:
            _locks.discard(handle)


def _let_go() -> None:
    while _locks:
        os.close(_locks.pop().fileno())


os.register_at_fork(after_in_child=_let_go)


def write_json(path: Path, content: Any, durable: bool = False) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it (durable: `write_atomic`)."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), durable)


def read_json(path: Path, kind: type[T]) -> T | None:
    """A JSON file's content; None where there is no such file, or where it is damaged or of another kind."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, kind) else None


@schema(config=STRICT)
class _Cost:
    seconds: Amount
    flops: Amount


@schema(config=STRICT)
class _Done:
    metrics: dict[Text, float]
    cost: _Cost
    wall_seconds: Amount
    versions: dict[Text, Text]
    hardware: dict[Text, Text | float | None]
    finished: Text
    cpu_seconds: Amount = 0.0
    settings: Text = ""


DONE = TypeAdapter(_Done)


def read_done(run_dir: Path) -> dict[str, Any] | None:
    """What a finished stage left in `done.json`; None where it has not finished, or where the file is damaged."""
    try:
        file = run_dir / "done.json"
        return checked(DONE, file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError):
        return None


def save_picture(run_dir: Path, key: str, image: np.ndarray | Themed, caption: str, reference: bool = False) -> None:
    """Keep a picture for the report; one of the same key takes the place of the earlier one.

    Args:
        key: pictures of different arms with the same key stand side by side ("scene 3, box").
        image: uint8 RGB, [H, W, 3]; or two for light and dark pages, of which the dark one becomes `<stem>-dark.png`.
        reference: the same for every arm (an input, the ground truth): shown once, first.
    """
    folder = run_dir / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    kept = [{**e, "file": e["file"].name} for e in saved_pictures(run_dir)]
    index = {(e["key"], e["reference"]): {name: e[name] for name in INDEXED} for e in kept}
    new = {"file": f"{len(index):03d}{'-reference' if reference else ''}.png"}
    file = index.get((key, reference), new)["file"]
    light, dark = image if isinstance(image, Themed) else (image, None)
    Image.fromarray(light).save(folder / file, optimize=True)
    if dark is not None:
        Image.fromarray(dark).save(_dark(folder / file), optimize=True)
    else:
        _dark(folder / file).unlink(missing_ok=True)
    index[key, reference] = {"key": key, "file": file, "caption": caption, "reference": reference}
    write_json(folder / "index.json", list(index.values()))


def saved_pictures(run_dir: Path) -> list[dict[str, Any]]:
    """The pictures in a run folder: key, file, caption, reference, and the file for dark pages, `dark`, or None."""
    folder = run_dir / "pictures"
    found = [
        {**entry, "file": folder / entry["file"]}
        for entry in read_json(folder / "index.json", list) or []
        if isinstance(entry, dict)
        and all(isinstance(entry.get(name), kind) for name, kind in INDEXED.items())
        and Path(entry["file"]).name == entry["file"]
        and _is_file(folder / entry["file"])
    ]
    return [{**entry, "dark": dark if (dark := _dark(entry["file"])).is_file() else None} for entry in found]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system has, a folder that nobody may enter
        return False


def _dark(file: Path) -> Path:
    return file.with_name(f"{file.stem}-dark{file.suffix}")


def save_axis(run_dir: Path, names: list[str], axis: str) -> None:
    """Say what logged series run along, where it is not the training step ("calls a query")."""
    write_json(run_dir / "axes.json", axes(run_dir) | dict.fromkeys(names, axis))


def axes(run_dir: Path) -> dict[str, str]:
    """What the series of a run folder run along, by name; those that are not named run along the step."""
    found = read_json(run_dir / "axes.json", dict) or {}
    return {name: axis for name, axis in found.items() if isinstance(axis, str)}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    names = (
        "torch",
        "torchvision",
        "lightning",
        "transformers",
        "diffusers",
        "timm",
        "open_clip_torch",
        "segment_anything",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and, where torch is loaded and sees one, the GPU."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found: dict[str, Any] = {
        "system": platform.system(),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return found


def finish(
    run_dir: Path, metrics: dict[str, float], cost: dict[str, float], wall: float, cpu: float, settings: str
) -> None:
    """Write `done.json`, the mark of a finished stage.

    Args:
        cost: what `callbacks.Cost` has counted.
        wall: seconds by the clock, from start to end.
        cpu: seconds that processors worked for it, waiting apart.
        settings: names what it was run with; the folder is finished for these settings only.
    """
    write_json(
        run_dir / "done.json",
        {
            "metrics": metrics,
            "cost": cost,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "settings": settings,
            "versions": versions(),
            "hardware": hardware(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        durable=True,
    )


def run_config(run_dir: Path) -> dict[str, Any]:
    """A run's merged configuration, its paths as they are now: its folder, or all of RUNS, may have been moved.

    Raises:
        UserError: no run folder, or its configuration is damaged.
    """
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run_dir} is no run folder: it has no config.yaml. Give the folder that a stage was run in")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is damaged: it holds no settings")
    then, now = Path(str(config.get("run_dir") or "")).parts, run_dir.absolute().parts
    equal = 0
    while equal < min(len(then), len(now)) and then[-1 - equal] == now[-1 - equal]:
        equal += 1
    before, after = Path(*then[: len(then) - equal]), Path(*now[: len(now) - equal])

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if isinstance(value, str) and "/" in value and Path(value).is_relative_to(before):
            new = after / Path(value).relative_to(before)
            return str(new) if _exists(new) else value
        return value

    try:
        return moved(config) | {"run_dir": str(run_dir)}
    except RecursionError as error:  # a list that holds itself
        raise UserError(f"{file} is damaged: its settings have no end") from error


@contextmanager
def settings_of(run_dir: Path) -> Iterator[dict[str, Any]]:
    """`run_config`, to take settings from: what is not there, or of another kind, is the user's error as well."""
    config = run_config(run_dir)
    try:
        yield config
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{run_dir / 'config.yaml'} lacks what is needed here ({shown(repr(error), 100)}): give the folder of a "
            "run of the right stage, with the config.yaml that it wrote"
        ) from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a long text with a slash in it
        return False


def disk_error(error: Exception, folder: Path) -> UserError | None:
    """The user's message for a full disk or a folder that cannot be written; None for any other error.

    Args:
        error: an OSError, or an error of a library that quotes one ("... (os error 28)").
        folder: what was being written into, for errors that do not name the file.
    """
    quoted = re.search(r"\(os error (\d+)\)", str(error))
    code = error.errno if isinstance(error, OSError) else int(quoted[1]) if quoted else None
    where = Path(getattr(error, "filename", None) or folder).absolute()
    if code in (errno.ENOSPC, errno.EDQUOT):
        while not where.exists():
            where = where.parent
        free = shutil.disk_usage(where).free / 2**20
        return UserError(
            f"the disk is full: {free:.0f} MiB are left at {where}. Free some space and run the same command again; "
            "it continues from the last checkpoint."
        )
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return UserError(
            f"no access to {where}: {os.strerror(code)}. Change that, or choose another folder with RUNS=<folder> "
            "(--run_dir for a single stage)."
        )
    return None
