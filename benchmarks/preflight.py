"""What a run needs before it starts: data, weights, disk, GPU. Everything that is missing is said at once."""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.recipes import Request
from common.errors import UserError
from common.paths import expand
from common.recipe import Download, Recipe


def missing(download: Download) -> str | None:
    """What is wrong with a download, or None when it is in its place."""
    try:
        path = expand(download.path, download.name)
        looked = f"looked at {path}"
        if path.exists() and (path.is_file() or any(path.iterdir())):
            return None
    except UserError as error:
        looked = str(error)
    size = f"{download.gigabytes:g} GB" if download.gigabytes is not None else "size not known"
    layout = f"\n    expected: {download.layout}" if download.layout else ""
    return f"{download.name} ({size}, {download.licence}): {looked}\n    from: {download.source}{layout}"


def gpus() -> int:
    """How many NVIDIA GPUs the driver lists; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")])


def preflight(recipe: Recipe, request: Request) -> None:
    """Raise a UserError that lists everything `request` lacks."""
    lacks: list[str] = []
    if request.data and (problem := missing(recipe.data[request.data])):
        lacks.append(problem)
    if request.scale == "paper":
        lacks += [problem for download in recipe.downloads if (problem := missing(download))]
        if not gpus():
            lacks.append(
                "a GPU: no NVIDIA GPU was found, and SCALE=paper trains on one. SCALE=rehearsal runs the same configs on a CPU."
            )
        folder = request.runs.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free / 1e9
        if free < recipe.disk:
            lacks.append(
                f"disk: {recipe.disk:g} GB needed under {folder}, {free:.0f} GB free. RUNS=<folder> chooses another."
            )
    if lacks:
        listed = "\n".join(f"  - {lack}" for lack in lacks)
        raise UserError(f"{request.paper} at SCALE={request.label} lacks:\n{listed}")


def environment(request: Request, stand_ins: Path | None = None) -> dict[str, str]:
    """Variables that the stages' configs refer to."""
    if stand_ins is not None:
        return {
            "DATA_ROOT": str(stand_ins / "data"),
            "WEIGHTS_ROOT": str(stand_ins / "weights"),
            "HF_HOME": str(stand_ins / "hub"),
            "HF_HUB_OFFLINE": "1",
        }
    wanted = ("DATA_ROOT", "WEIGHTS_ROOT") if request.scale == "paper" or request.data else ()
    return {name: os.environ[name] for name in wanted if os.environ.get(name)}
