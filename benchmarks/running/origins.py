"""What results at SCALE=small rest on: pretrained models of the hub and public data, by the content of their files."""

import hashlib
import os
from functools import cache
from pathlib import Path

from common.paths import expand
from common.recipe import Download, HubModel, Small
from common.training.runs import read_json

WEIGHTS = "*.safetensors"
FETCHED = (WEIGHTS, "*.json", "*.txt", "*.model", "1_Pooling/*")
"""Of a model: weights, configs, tokenizers; no copies of the weights in other formats."""


def origins(small: Small, data: str) -> dict[str, dict[str, str]]:
    """Digests of what is there: the weights of every model, all files of the data, each under its name.

    A model that did not come from the hub itself says where from (`scripts.weights`).
    """
    found: dict[str, dict[str, str]] = {"weights": {}, "packages": {}, "data": {}}
    for model in small.models:
        folder = snapshot(model.id)
        for file in sorted(folder.glob(WEIGHTS)) if folder else []:
            found["weights"][f"{model.id}/{file.name}"] = f"sha256 {sha256(file)}"
        if folder and (note := read_json(folder / "origin.json", dict)):
            found["packages"][model.id] = f"{note.get('package')}: {note.get('differs')}"
    download = small.chosen(data)
    if files := data_files(download):
        digest = hashlib.sha256()
        for name, file in files.items():
            digest.update(f"{name}\0{sha256(file)}\0".encode())
        found["data"][download.name] = f"sha256 {digest.hexdigest()} of {len(files)} files"
    return {what: those for what, those in found.items() if those}


def snapshot(hub_id: str, kind: str = "models") -> Path | None:
    """The files of a model (or of "datasets") in the hub's cache, None where it is not there or has no weights."""
    from huggingface_hub import constants  # here, because most commands need nothing of the hub

    folder = newest(repository(Path(constants.HF_HUB_CACHE), hub_id, kind))
    if folder is None:
        return None
    whole = any(folder.glob(WEIGHTS)) and (folder / "config.json").exists() if kind == "models" else folder.is_dir()
    return folder if whole else None


def repository(cache_folder: Path, hub_id: str, kind: str = "models") -> Path:
    """The folder of a model, or of "datasets", in the hub's cache."""
    return cache_folder / f"{kind}--{hub_id.replace('/', '--')}"


def newest(place: Path) -> Path | None:
    """Where a repository of the cache has the newest commit that it knows; None where it knows none."""
    try:
        return place / "snapshots" / (place / "refs/main").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def data_root(download: Download) -> Path | None:
    """The user's DATA_ROOT, or without one the data set in the hub's cache; None where neither is there."""
    if os.environ.get("DATA_ROOT"):
        return Path(os.environ["DATA_ROOT"])
    folder = snapshot(download.hub, "datasets") if download.hub else None
    return folder if folder and _matching(folder, download) else None


def data_files(download: Download) -> dict[str, Path]:
    """The files of a data set that are read, by their paths in its folder."""
    root = data_root(download)
    if root is None:
        return {}
    folder = root if download.path == "$DATA_ROOT" else expand(download.path.replace("$DATA_ROOT", str(root)))
    return _matching(folder, download)


def _matching(folder: Path, download: Download) -> dict[str, Path]:
    found = {file for pattern in download.files for file in folder.glob(pattern) if file.is_file()}
    return {file.relative_to(folder).as_posix(): file for file in sorted(found)}


def lacking(small: Small, data: str) -> tuple[list[HubModel], Download | None]:
    """The models that are not in the hub's cache, and the data set, where neither DATA_ROOT nor the cache has it."""
    download = small.chosen(data)
    return [model for model in small.models if not snapshot(model.id)], None if data_root(download) else download


def sha256(file: Path) -> str:
    """The digest of a file's content."""
    there = file.stat()
    return _sha256(file, there.st_size, there.st_mtime_ns)


@cache
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
