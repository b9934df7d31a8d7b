"""What a paper-scale recipe will cost, before anything is launched: work, memory, time, money, bytes.

python -m benchmarks.plan mobilesam --gpu a100-80g --devices 1 --price 2.5

Operations, activations and the time of a step are counted on the real architectures without values
(`benchmarks.planning.meter`); batch, steps and precision are those of projects/<paper>/configs/paper. A recipe says
what its stages do in the function that its `plan` names (`common.workload.Workload`).
"""

import argparse
import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.judging.checked import read_yaml
from benchmarks.running import recipes
from common.errors import UserError, refuse_control_in, unknown, user_errors
from common.recipe import Output, Recipe, Stage, walk

GPUS = Path(__file__).with_name("planning") / "gpus.yaml"
UTILISATION = 0.5  # of a GPU's peak arithmetic and bandwidth; well-tuned kernels reach 0.4 to 0.7
RESERVED = 1.0  # GB: CUDA's context, cuDNN's and cuBLAS's workspaces
FRAGMENTATION = 1.05  # what the allocator holds over what is used


@dataclass(frozen=True)
class StagePlan:
    """What one stage costs. Bytes per device, FLOP per sample, seconds per run; `fits` is about the GPU's memory."""

    stage: str
    run: str
    arms: list[str]
    runs: int
    precision: str
    unit: str
    batch: int
    devices: int
    accumulate: int
    steps: int
    samples: int
    trained: int
    frozen: int
    forward: float
    backward: float
    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: float
    fits: bool
    largest_batch: int | None
    step_seconds: float
    bound: dict[str, float]
    loader_seconds: float | None
    seconds: float
    reported: str

    @property
    def device_hours(self) -> float:
        """Of all runs (a shared stage runs once, the others once a seed) on all devices."""
        return self.seconds * self.runs * self.devices / 3600


def gpus() -> dict[str, Any]:
    """The figures of every GPU that is known, by name."""
    figures = ("memory", "bandwidth", "bf16", "tf32", "fp32")
    return {
        str(node.key): {**{name: node[name].number(1e-9) for name in figures}, "source": node["source"].text()}
        for node in read_yaml(GPUS).mapping()
    }


def gpu(name: str) -> Any:
    """A GPU's figures; UserError with the nearest names for one that is not in the table."""
    from benchmarks.planning.meter import Gpu

    known = gpus()
    if name not in known:
        raise unknown("GPU", name, known)
    return Gpu(name, **known[name])


def configuration(stage: Stage) -> dict[str, Any]:
    """The paper's config of a stage with its overrides; what another stage leaves is given as `stage/file`."""
    config = recipes.settings(stage, "paper")
    for key, value in stage.overrides.items():
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = f"{value.stage.name}/{value.file}" if isinstance(value, Output) else value
    return config


def hook(paper: str, recipe: Recipe) -> Callable[..., Any]:
    """The recipe's function that describes its stages; UserError where it has none."""
    if not recipe.plan:
        raise UserError(
            f"{paper} cannot be planned: projects/{paper}/recipe.py names no `plan`. Write "
            f"projects/{paper}/harness/plan.py with a function (stage, config) -> common.workload.Workload "
            f'(projects/mobilesam/harness/plan.py is one) and set plan="projects.{paper}.harness.plan:workload".'
        )
    module, name = recipe.plan.split(":")
    return getattr(importlib.import_module(module), name)


def count(value: Any) -> int | None:
    """A number of devices or nodes that a config gives outright; None for "auto" and lists of indices."""
    return value if isinstance(value, int) and value > 0 else None


def steps_of(stage: Stage, trainer: dict[str, Any], samples: int, batch: int) -> int:
    """Optimiser steps of a training, or batches of another run. `batch` is the global one, accumulation included."""
    if stage.run != "fit":
        return math.ceil(samples / batch)
    limits = [trainer["max_steps"]] if trainer.get("max_steps", -1) > 0 else []
    limits += [trainer["max_epochs"] * (samples // batch)] if trainer.get("max_epochs") else []
    if not limits:
        raise UserError(f"stage {stage.name}: its config sets neither trainer.max_steps nor trainer.max_epochs")
    return min(limits)


def plan_stage(
    stage: Stage, workload_of: Callable[..., Any], card: Any, devices: int, seeds: int, utilisation: float
) -> StagePlan:
    """Plan one stage on `devices` GPUs (0 takes the config's number, or one)."""
    import torch

    from benchmarks.planning.meter import materialise, measure

    config = configuration(stage)
    trainer = config.get("trainer") or {}
    precision = str(trainer.get("precision") or "32-true")
    devices = devices or (count(trainer.get("devices")) or 1) * (count(trainer.get("num_nodes")) or 1)
    accumulate = trainer.get("accumulate_grad_batches", 1) if stage.run == "fit" else 1
    with torch.device("meta"):
        workload = workload_of(stage, config)
    materialise(workload, precision)

    parameters = list(workload.model.parameters())
    held = [*parameters, *workload.model.buffers()]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in trained)
    weights, gradients = sum(t.nbytes for t in held), sum(t.nbytes for t in trained)
    buckets = gradients if devices > 1 else 0  # DistributedDataParallel's copies of the gradients
    optimizer = numbers * workload.optimizer_bytes
    static = weights + optimizer + buckets

    def peak_of(step: Any) -> float:
        """Bytes at the worst moment: the end of the forward pass, beside the last step's gradients; within the backward
        pass; or the optimiser's step, whose temporary tensors are as large as the gradients."""
        moments = (gradients + step.forward_peak, step.backward_peak, 2 * gradients)
        return FRAGMENTATION * (static + max(moments)) + RESERVED * 1e9

    run = partial(measure, workload, precision=precision, gpu=card, utilisation=utilisation)
    step = run(workload.batch)
    capacity = card.memory * 1e9
    largest = None
    if stage.run != "test":  # which goes image by image
        known = {workload.batch: peak_of(step), 2 * workload.batch: peak_of(run(2 * workload.batch))}
        largest = largest_batch(lambda n: peak_of(run(n)), known, capacity)

    # AdamW reads weight, gradient and state, and writes weight and state
    update = (3 * gradients + 2 * optimizer) / (card.bandwidth * 1e9 * utilisation) if trained else 0.0
    arithmetic = sum(step.seconds.values())
    loading = workload.loader_seconds and workload.loader_seconds * workload.batch / max(1, workload.workers)
    step_seconds = max(arithmetic, loading or 0.0) * accumulate + update
    global_batch = workload.batch * devices * accumulate
    steps = steps_of(stage, trainer, workload.samples, global_batch)
    return StagePlan(
        stage=stage.name,
        run=stage.run,
        arms=[],
        runs=1 if stage.shared else seeds,
        precision=precision,
        unit=workload.unit,
        batch=workload.batch,
        devices=devices,
        accumulate=accumulate,
        steps=steps,
        samples=steps * global_batch if stage.run == "fit" else workload.samples,
        trained=numbers,
        frozen=sum(parameter.numel() for parameter in parameters) - numbers,
        forward=step.forward_flops / workload.batch,
        backward=step.backward_flops / workload.batch,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(step.forward_peak, step.backward_peak - gradients),
        peak=peak_of(step),
        fits=peak_of(step) <= capacity,
        largest_batch=largest,
        step_seconds=step_seconds,
        bound={name: seconds / arithmetic for name, seconds in step.seconds.items()},
        loader_seconds=loading,
        seconds=steps * step_seconds,
        reported=workload.reported,
    )


def largest_batch(peak: Callable[[int], float], known: dict[int, float], capacity: float) -> int:
    """The largest batch whose peak is within the capacity, to 2 % (a small one exactly); 0 for none.

    Memory grows nearly linearly with the batch, so the line through two known batches tells which to try next; every
    other time the middle is tried, for steps whose memory does not.

    Args:
        known: peaks of two batches at least.
    """
    known = dict(known)
    for attempt in range(20):
        low = max((n for n, used in known.items() if used <= capacity), default=0)
        high = min((n for n, used in known.items() if used > capacity), default=64 * max(known))
        room = high - low
        if below := max((n for n in known if n < low), default=0):  # by the line through the two
            slope = max((known[low] - known[below]) / (low - below), 1e-9)
            room = min(room, 1 + math.floor((capacity - known[low]) / slope))
        if room <= 1 + low // 50:
            break
        first, second = (low, high) if low in known and high in known else sorted(known)[: 2 if low == 0 else None][-2:]
        slope = max((known[second] - known[first]) / (second - first), 1e-9)
        guess = (low + high) // 2 if attempt % 2 else math.floor(first + (capacity - known[first]) / slope)
        guess = min(max(guess, low + 1), high - 1)
        known[guess] = peak(guess)
    return low


def plan(
    paper: str,
    gpu_name: str,
    devices: int = 0,
    seeds: int = 3,
    arms: tuple[str, ...] = (),
    utilisation: float = UTILISATION,
) -> list[StagePlan]:
    """Plans of a recipe's distinct stages at paper scale, in an order in which they can run.

    Stages with the same cost are one plan with several arms, e.g. the evaluation of every student.

    Raises:
        UserError: unknown paper, arm or GPU; a recipe without a `plan`.
    """
    request = recipes.Request(paper=paper, scale="paper", seeds=seeds, arms=arms)
    recipe, chosen = recipes.check(request)
    card, workload_of = gpu(gpu_name), hook(paper, recipe)
    names: dict[Stage, list[str]] = {}
    for arm, content in chosen.items():
        for stage in walk(content.stages):
            names.setdefault(stage, []).append(arm)
    measured: dict[str, StagePlan] = {}  # by what the cost follows from: weights' paths are not part of it
    alike: dict[str, StagePlan] = {}
    for stage, users in names.items():
        same = {key: value.file if isinstance(value, Output) else value for key, value in stage.overrides.items()}
        cost = json.dumps([stage.module, stage.name, stage.run, stage.shared, same], default=str)
        if cost not in measured:
            print(f"counting {stage.name}", file=sys.stderr, flush=True)  # minutes in all, where many stages differ
            measured[cost] = plan_stage(stage, workload_of, card, devices, seeds, utilisation)
        made = measured[cost]
        key = json.dumps(asdict(replace(made, runs=0)))
        before = alike.get(key, replace(made, runs=0))
        alike[key] = replace(before, arms=list(dict.fromkeys([*before.arms, *users])), runs=before.runs + made.runs)
    return list(alike.values())


def parser() -> argparse.ArgumentParser:
    """The command line; each option is the `make` variable of the same name."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("paper", help="a recipe's name (`make list` shows them)")
    command.add_argument("--gpu", default="", help="a name in benchmarks/planning/gpus.yaml (default: h100)")
    command.add_argument("--devices", default="", help="GPUs that a stage runs on (default: the config's, or one)")
    command.add_argument("--price", default="", help="of one GPU for one hour, in any currency; none prints no money")
    command.add_argument("--seeds", type=int, default=3, help="seeds per arm (default: 3)")
    command.add_argument("--arms", default="", help="only these arms, separated by commas or spaces")
    command.add_argument(
        "--utilisation", type=float, default=UTILISATION,
        help=f"share of the GPU's peak arithmetic and bandwidth that is reached (default: {UTILISATION})",
    )  # fmt: skip
    return command


def number(text: str, what: str, kind: type[float] | type[int]) -> Any:
    """A positive number from the command line, 0 for an empty word."""
    try:
        value = kind(text or 0)
    except ValueError:
        value = kind(-1)
    if not 0 <= value < math.inf:
        raise UserError(f"{what}={text}: a positive {'number' if kind is float else 'whole number'} is needed")
    return value


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    refuse_control_in(options)
    from benchmarks.planning.tables import print_plan

    devices, price = number(options.devices, "DEVICES", int), number(options.price, "PRICE", float)
    if not 0 < options.utilisation <= 1:
        raise UserError(f"--utilisation {options.utilisation}: a share above 0 and up to 1 is needed")
    card = gpu(options.gpu or "h100")
    arms = tuple(options.arms.replace(",", " ").split())
    stages = plan(options.paper, card.name, devices, options.seeds, arms, options.utilisation)
    print_plan(options.paper, recipes.load(options.paper), stages, card, price, options.utilisation, options.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
