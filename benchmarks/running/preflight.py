"""What a run needs before it starts: data, weights, disk, GPU. Everything that is missing is said at once."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.running import origins, recipes
from benchmarks.running.recipes import Request
from common.errors import UserError
from common.paths import expand
from common.recipe import Download, Output, Recipe, Stage, walk
from common.rehearsal import owned

VARIABLE = re.compile(r"\$\{?(\w+)")


def missing(download: Download) -> str | None:
    """What is wrong with a download, or None when it is in its place."""
    size = f"{download.gigabytes:g} GB" if download.gigabytes is not None else "size not known"
    if unset := [name for name in VARIABLE.findall(download.path) if not os.environ.get(name)]:
        found = f"{download.path}, but {' and '.join(unset)} is not set"
    elif problem := _absent(expand(download.path, download.name), download.gigabytes):
        found = problem
    else:
        return None
    lines = [f"{download.name} ({size}, {download.licence})", f"looked at: {found}", f"from: {download.source}"]
    return "\n      ".join(lines + ([f"expected: {download.layout}"] if download.layout else []))


def _absent(path: Path, gigabytes: float | None) -> str | None:
    """Why a path does not count as there. Of a folder, whose user may want a part only, the size is not checked."""
    if not path.exists():
        return f"{path}, which does not exist"
    if path.is_dir():
        return None if any(path.iterdir()) else f"{path}, which is empty"
    there = path.stat().st_size / 1e9
    cut_off = gigabytes is not None and there < 0.95 * gigabytes
    return f"{path}, which has {there:.2f} GB: download it again" if cut_off else None


def gpus() -> int:
    """How many NVIDIA GPUs the driver lists; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace")
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")])


def preflight(recipe: Recipe, request: Request, runs_here: bool = True) -> None:
    """Raise a UserError that lists everything `request` lacks; the GPU, only where the stages run on this machine."""
    downloads = list(recipe.downloads) if request.scale == "paper" else []
    downloads += [recipe.data[request.data]] if request.data and request.scale == "mini" else []
    downloads += [recipe.small.chosen(request.data)] if recipe.small and request.scale == "small" else []
    lacks = [problem for download in downloads if (problem := missing(download))] or _wrong_sources(request)
    if request.scale == "paper":
        if runs_here and recipes.on_gpus(request.paper, request.scale) and not gpus():
            lacks.append(
                "a GPU: no NVIDIA GPU was found, and SCALE=paper trains on one. "
                "SCALE=rehearsal runs the same configs on a CPU."
            )
        if problem := _disk(recipe, request):
            lacks.append(problem)
    if lacks:
        listed = "\n".join(f"  - {lack}" for lack in lacks)
        command = ["make reproduce", f"PAPER={request.paper}", f"SCALE={request.scale}"]
        command += [f"DATA={request.data}"] if request.data else []
        names = dict.fromkeys(name for download in downloads for name in VARIABLE.findall(download.path))
        given = {name: os.environ.get(name) for name in names}
        command += [f"{name}={shlex.quote(value) if value else '<folder>'}" for name, value in given.items()]
        raise UserError(f"{request.paper} at SCALE={request.label} lacks:\n{listed}\nThen: {' '.join(command)}")


def _wrong_sources(request: Request) -> list[str]:
    """What is wrong with the data that stages read from disk, tried before the first of them is trained.

    What other stages write is not there yet, and what ARGS change is left to the stages.
    """
    here = request.scale in ("small", "paper") or request.data
    if not here or any(word.startswith(("--data", "--config")) for word in request.args):
        return []
    from common.data import checks  # here, because readers need torch

    _, arms = recipes.check(request)
    stages = walk([stage for arm in arms.values() for stage in arm.stages])
    problems = []
    for class_path, arguments in checks.readers([_settings(stage, request) for stage in stages]):
        try:
            checks.check_source(class_path, arguments)
        except UserError as error:
            problems.append(str(error).replace("\n", "\n      "))
    return list(dict.fromkeys(problems))


def _settings(stage: Stage, request: Request) -> dict[str, Any]:
    """A stage's config with its overrides; without what another stage's output takes the place of."""
    config = recipes.settings(stage, request.scale, request.data)
    for key, value in stage.overrides.items():
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            inner = place.get(parent)
            if not isinstance(inner, dict):  # nothing, or a class by its path alone, as command lines may have it
                inner = place[parent] = {} if inner is None else {"class_path": inner}
            place = inner
        place[last] = value
        if isinstance(value, Output):
            del place[last]
    return config


def check_memory(recipe: Recipe, request: Request, gpu: str) -> None:
    """UserError where a stage of the paper's configs does not fit a GPU's memory, by the reckoning of `make plan`.

    A recipe without a plan, a GPU that the plan does not know and settings in ARGS are let pass.
    """
    from benchmarks.planning import gpus, stages  # here, because counting needs torch

    if not recipe.plan or request.args or gpu not in gpus.gpus():
        return
    if lacks := [
        f"{stage.stage}: {stage.peak / 1e9:.0f} GB at batch {stage.batch}; the largest batch that fits is "
        f"{stage.largest_batch or 'none'}"
        for stage in stages.plan(request.paper, gpu, arms=request.arms, runs=request.runs)
        if not stage.fits
    ]:
        listed = "\n".join(f"  - {lack}" for lack in lacks)
        raise UserError(
            f"{request.paper} does not fit a {gpu} ({gpus.gpu(gpu).memory:g} GB):\n{listed}\nChoose a larger GPU, or a "
            'smaller batch: ARGS="--data.batch_size n --trainer.accumulate_grad_batches k" keeps the product.'
        )


def _disk(recipe: Recipe, request: Request) -> str | None:
    """What is wrong with the free space; what an interrupted run has written already is not needed again."""
    folder = request.runs.absolute()
    while not folder.exists():
        folder = folder.parent
    own = request.runs / request.paper / request.label
    written = sum(path.lstat().st_size for path in own.rglob("*") if path.is_file()) / 1e9
    free = shutil.disk_usage(folder).free / 1e9
    if free >= recipe.disk - written:
        return None
    needed = f"{recipe.disk - written:.0f} GB needed under {folder}, {free:.0f} GB free"
    return f"disk: {needed}. RUNS=<folder> chooses another."


def environment(request: Request, stand_ins: Path | None = None) -> dict[str, str]:
    """Variables that the stages' configs refer to."""
    if stand_ins is not None:
        return owned.variables(stand_ins)
    if request.scale == "small" and (small := recipes.load(request.paper).small):
        folder = origins.data_root(small.chosen(request.data))
        return {**({"DATA_ROOT": str(folder)} if folder else {}), "HF_HUB_OFFLINE": "1"}  # all is there by then
    wanted = ("DATA_ROOT", "WEIGHTS_ROOT") if request.scale == "paper" or request.data else ()
    return {name: os.environ[name] for name in wanted if os.environ.get(name)}
