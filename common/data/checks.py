"""Data that a config names is tried before anything is trained: its layout, first and last samples, first lines."""

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, get_args

from common.data.scene import UnreadableSample
from common.data.text import AbsentSplit, Split
from common.data.tolerant import TOLERATED
from common.data.videos import VideoSource
from common.errors import UserError

READERS = "common.data.readers."
LINES = 20  # of each split that are tried


def check_sources(config: Any) -> None:
    """Try every reader of files that a config names (`class_path: common.data.readers...`), at any depth.

    A reader that lacks a required argument is passed over: another stage's output takes its place.

    Raises:
        UserError: the data of one are missing, in another layout, or damaged where they were tried.
    """
    for class_path, arguments in readers(config):
        check_source(class_path, arguments)


def readers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class paths and arguments of the readers in a config, each pair once."""
    found = {json.dumps(reader, sort_keys=True, default=str): reader for reader in _readers(config)}
    yield from found.values()


def _readers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(config, dict):
        if str(config.get("class_path")).startswith(READERS):
            yield config["class_path"], config.get("init_args") or {}
        for value in config.values():
            yield from _readers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _readers(value)


def check_source(class_path: str, arguments: dict[str, Any]) -> None:
    """Try one reader; errors as `check_sources`."""
    module, _, name = class_path.rpartition(".")
    try:
        reader = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"there is no reader {class_path} ({error})") from error
    parameters = inspect.signature(reader).parameters
    if unknown := sorted(set(arguments) - set(parameters)):
        raise UserError(f"{class_path} has no argument {unknown[0]}, only {', '.join(parameters)}")
    if any(p.default is p.empty and p.name not in arguments for p in parameters.values()):
        return
    try:
        if hasattr(reader, "check"):
            reader.check(**arguments)
        else:
            try_source(reader(**arguments))
    except (OSError, TypeError, ValueError) as error:  # the config's values have no types yet
        raise UserError(f"{name} cannot be made with {arguments}: {error}") from error


def try_source(source: Any) -> None:
    """Try the first and last samples of a collection, or the first lines of every split of a reader of lines.

    Raises:
        UserError: more of them are unreadable than is tolerated, or no split is there.
    """
    if isinstance(source, VideoSource):
        _samples(len(source), lambda index: source.clip(index, 1, 1))
    elif hasattr(source, "read"):
        _splits(getattr(source, "rows", source.read))
    else:
        _samples(len(source), source.__getitem__)


def _samples(count: int, read: Callable[[int], Any]) -> None:
    unreadable = []
    for index in sorted({0, count - 1}):
        try:
            read(index)
        except UnreadableSample as error:
            unreadable.append(error)
    if len(unreadable) > TOLERATED * count:
        raise UserError(f"cannot read {unreadable[0]}. Download it again, or remove it") from unreadable[0]


def _splits(read: Callable[[Split], Any]) -> None:
    absent = []
    for split in get_args(Split):
        try:
            list(islice(read(split), LINES))
        except AbsentSplit as error:
            absent.append(error)
    if len(absent) == len(get_args(Split)):
        raise absent[0]
