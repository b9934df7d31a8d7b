"""What a recipe's stages cost at paper scale on a GPU: work, memory and time of each, from one step of its networks.

What a step takes is counted on the real architectures without values (`benchmarks.planning.meter`), or was before
(`benchmarks.planning.records`); batch, steps, precision and strategy are those of projects/<paper>/configs/paper. A
recipe says what its stages do in the function that its `plan` names (`common.workload.Workload`).
"""

import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.planning import cost as costs
from benchmarks.planning import records
from benchmarks.planning.cost import Cost
from benchmarks.planning.gpus import Gpu, gpu
from benchmarks.planning.reading import Noted
from benchmarks.planning.records import Costs, Counted
from benchmarks.running import recipes
from common.errors import UserError
from common.recipe import Arm, Output, Recipe, Stage, walk

UTILISATION = 0.5  # of a GPU's peak arithmetic and bandwidth; well-tuned kernels reach 0.4 to 0.7
RESERVED = 1.0  # GB: CUDA's context, cuDNN's and cuBLAS's workspaces
FRAGMENTATION = 1.05  # what the allocator holds over what is used
LARGEST = 1 << 20  # no batch beyond it is looked for


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


def card_of(recipe: Recipe) -> str:
    """The name of what a recipe's paper scale is written for."""
    return "cpu" if recipe.paper_on_cpu else recipe.gpu


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


def hook(paper: str) -> Callable[..., Any]:
    """The recipe's function that describes its stages; UserError where it has none."""
    module, name = hook_name(paper).split(":")
    return getattr(importlib.import_module(module), name)


def hook_name(paper: str) -> str:
    """`module:function`, as the recipe's `plan` says."""
    if named := recipes.load(paper).plan:
        return named
    raise UserError(
        f"{paper} cannot be planned: projects/{paper}/recipe.py names no `plan`. Write "
        f"projects/{paper}/harness/plan.py with a function (stage, config) -> common.workload.Workload "
        f'(projects/mobilesam/harness/plan.py is one) and set plan="projects.{paper}.harness.plan:workload".'
    )


def number_of(value: Any) -> int | None:
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


def precision_of(config: dict[str, Any]) -> str:
    return str((config.get("trainer") or {}).get("precision") or "32-true")


def gradients_in_buckets(stage: Stage, trainer: dict[str, Any]) -> bool:
    """Whether gradients on several devices are views of what is exchanged, or have a copy there.

    Raises:
        UserError: the strategy is no replica on every device.
    """
    strategy = trainer.get("strategy") or "auto"
    name, arguments = strategy, dict[str, Any]()
    if isinstance(strategy, dict):
        name = strategy.get("class_path", "")
        arguments = {**(strategy.get("init_args") or {}), **(strategy.get("dict_kwargs") or {})}
    if name != "auto" and not name.startswith("ddp") and name.rpartition(".")[2] != "DDPStrategy":
        raise UserError(
            f"stage {stage.name}: trainer.strategy {name} is not modelled; these are: auto, ddp, "
            "ddp_find_unused_parameters_true, lightning.pytorch.strategies.DDPStrategy"
        )
    return bool(arguments.get("gradient_as_bucket_view"))


def plan_stage(
    stage: Stage,
    config: dict[str, Any],
    cost: Cost,
    card: Gpu,
    devices: int = 0,
    seeds: int = 3,
    utilisation: float = UTILISATION,
) -> StagePlan:
    """Plan one stage, a step of which has this cost, on `devices` GPUs (0 takes the config's number, or one)."""
    trainer = config.get("trainer") or {}
    devices = devices or (number_of(trainer.get("devices")) or 1) * (number_of(trainer.get("num_nodes")) or 1)
    accumulate = trainer.get("accumulate_grad_batches", 1) if stage.run == "fit" else 1
    views = gradients_in_buckets(stage, trainer)

    optimizer = cost.trained * cost.optimizer_bytes
    buckets = cost.gradients if devices > 1 and not views else 0  # DistributedDataParallel's copies
    static = cost.weights + optimizer + buckets
    updating = cost.gradients * (1 if cost.fused else 2)  # with the optimiser's temporary tensors
    kept = accumulate > 1 or (devices > 1 and views)  # gradients are there when the backward pass begins

    def peaks(batch: int) -> tuple[int, int]:
        """Bytes of the forward and of the backward pass, of the latter with the gradients."""
        forward = costs.largest(cost.memory.forward, batch)
        if kept:
            return forward, cost.gradients + costs.largest(cost.memory.beside, batch)
        return forward, costs.largest(cost.memory.backward, batch)

    def peak_of(batch: int) -> float:
        """Bytes at the worst moment: the end of the forward pass, beside the last step's gradients; within the backward
        pass; or the optimiser's step."""
        forward, backward = peaks(batch)
        return FRAGMENTATION * (static + max(cost.gradients + forward, backward, updating)) + RESERVED * 1e9

    forward, backward = peaks(cost.batch)
    peak, capacity = peak_of(cost.batch), card.memory * 1e9

    # AdamW reads weight, gradient and state, and writes weight and state
    update = (3 * cost.gradients + 2 * optimizer) / (card.bandwidth * 1e9 * utilisation) if cost.trained else 0.0
    seconds = cost.seconds(card, utilisation)
    arithmetic = sum(seconds.values())
    loading = cost.loader_seconds and cost.loader_seconds * cost.batch / max(1, cost.workers)
    step_seconds = max(arithmetic, loading or 0.0) * accumulate + update
    global_batch = cost.batch * devices * accumulate
    steps = steps_of(stage, trainer, cost.samples, global_batch)
    return StagePlan(
        stage=stage.name,
        run=stage.run,
        arms=[],
        runs=1 if stage.shared else seeds,
        precision=precision_of(config),
        unit=cost.unit,
        batch=cost.batch,
        devices=devices,
        accumulate=accumulate,
        steps=steps,
        samples=steps * global_batch if stage.run == "fit" else cost.samples,
        trained=cost.trained,
        frozen=cost.frozen,
        forward=cost.forward / cost.batch,
        backward=cost.backward / cost.batch,
        weights=cost.weights,
        gradients=cost.gradients,
        optimizer=optimizer,
        activations=max(forward, backward - cost.gradients),
        peak=peak,
        fits=peak <= capacity,
        largest_batch=None if stage.run == "test" else largest_batch(peak_of, capacity),  # a test goes image by image
        step_seconds=step_seconds,
        bound={name: share / arithmetic for name, share in seconds.items()},
        loader_seconds=loading,
        seconds=steps * step_seconds,
        reported=cost.reported,
    )


def largest_batch(peak: Callable[[int], float], capacity: float) -> int:
    """The largest batch whose peak, which grows with it, is within the capacity; 0 for none."""
    low, high = 0, 1
    while high <= LARGEST and peak(high) <= capacity:
        low, high = high, 2 * high
    while high <= LARGEST and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle) <= capacity else (low, middle)
    return low


def cost_of(paper: str, stage: Stage, config: dict[str, Any], known: Costs) -> Counted:
    """The cost of a stage's step: known, or counted now and known from then on."""
    config = json.loads(json.dumps(config, default=str))  # as a record has it
    precision = precision_of(config)
    found = known.find(stage.name, stage.run, precision, config)
    if found is None:
        import torch

        from benchmarks.planning import meter

        print(f"counting {stage.name}", file=sys.stderr, flush=True)  # a minute in all, where many stages differ
        read: dict[str, Any] = {}
        describe = hook(paper)  # whose module may make tensors of its own as it is imported
        with torch.device("meta"):
            workload = describe(stage, Noted(config, read))
        counted = meter.count(workload, precision, growing=stage.run != "test")
        found = Counted(stage.name, stage.run, precision, read, counted)
        known.add(found)
    return found


def stages_of(arms: dict[str, Arm]) -> dict[Stage, list[str]]:
    """The stages of arms, in an order in which they can run, each with the arms that need it."""
    users: dict[Stage, list[str]] = {}
    for name, arm in arms.items():
        for stage in walk(arm.stages):
            users.setdefault(stage, []).append(name)
    return users


def plan(
    paper: str,
    gpu_name: str = "",
    devices: int = 0,
    seeds: int = 3,
    arms: tuple[str, ...] = (),
    utilisation: float = UTILISATION,
    runs: Path | None = None,
    fresh: bool = False,
) -> list[StagePlan]:
    """Plans of a recipe's distinct stages at paper scale, in an order in which they can run.

    Stages with the same cost are one plan with several arms, e.g. the evaluation of every student.

    Args:
        gpu_name: the one that the recipe's configs are written for, where it is empty.
        runs: in its folder of the recipe is kept what had to be counted; None: nowhere.
        fresh: count everything, whatever is known.

    Raises:
        UserError: unknown paper, arm or GPU; a recipe without a `plan`.
    """
    recipe, chosen = recipes.check(recipes.Request(paper=paper, scale="paper", seeds=seeds, arms=arms))
    card = gpu(gpu_name or card_of(recipe))
    known = Costs(records.present(hook_name(paper)))
    own = records.own(paper, runs) if runs else None
    for file in [] if fresh else filter(None, (records.path(paper), own)):
        known.take(file)
    alike: dict[str, StagePlan] = {}
    for stage, users in stages_of(chosen).items():
        config = configuration(stage)
        cost = cost_of(paper, stage, config, known).cost
        made = plan_stage(stage, config, cost, card, devices, seeds, utilisation)
        key = json.dumps(asdict(replace(made, runs=0)))
        before = alike.get(key, replace(made, runs=0))
        alike[key] = replace(before, arms=list(dict.fromkeys([*before.arms, *users])), runs=before.runs + made.runs)
    if known.new and own:
        known.keep(own)
    return list(alike.values())


def record(paper: str, fresh: bool = False) -> bool:
    """Renew a recipe's committed record: count what is stale in it or missing, drop what no stage needs.

    Args:
        fresh: count everything.

    Returns:
        whether there was anything to write.
    """
    recipe = recipes.load(paper)
    file = records.path(paper)
    known = Costs(records.present(hook_name(paper)))
    if not fresh:
        known.take(file)
    stages = stages_of(recipe.arms("paper"))
    needed = [cost_of(paper, stage, configuration(stage), known) for stage in stages]
    made = replace(known.now, stages=tuple({id(one): one for one in needed}.values()))
    if made == records.read(file):
        return False
    records.write(file, made)
    return True
