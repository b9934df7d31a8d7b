"""Encoder propagation (section 3.3): a pipeline's U-Net runs its encoder at key steps and reuses what it said between.

    with propagate(pipe, keys="paper"):
        picture = pipe("a cat wearing sunglasses", num_inference_steps=50).images[0]

The pipeline is diffusers' own, and afterwards it is what it was. While the context is open, the modules of the encoder
answer from memory at all but the key steps, and everything else in the U-Net runs as it always does, with the step's
own time: so whatever a pipeline adds to a U-Net (guidance, ControlNet, adapters, frames of a video) stays as it is.

At steps that are not key the noise that is foreseen does not depend on the latent. So, in parallel, a key step's call
runs the encoder once and the decoder once for all steps up to the next key step, as one batch; the calls that follow
get their part of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from common.errors import UserError
from projects.faster_diffusion.keys import NAMED, Keys, key_steps

Mode = Literal["encoder", "decoder", "both", "drop"]
"""What answers from memory between key steps.

    encoder   conv_in, the down blocks and the middle block: the paper's method
    decoder   the up blocks but the last one, which reads the encoder's new features beside their old ones (Figure 4d)
    both      all of these; what is left to run is the last up block
    drop      as both, but zeros in the memory's place
"""
ALPHA, UNTIL = 0.003, 0.5
"""Of the prior noise injection: how much of z_T, and below which part of the training's times."""
DIT_ENCODER = 18 / 28
"""The share of a DiT's blocks that counts as its encoder (section 3.1)."""
Call = Callable[..., Any]


@dataclass
class Counts:
    """What has run since the context was opened; rows are samples, a guided picture has two."""

    encoder_calls: int = 0
    decoder_calls: int = 0
    decoder_rows: int = 0


@contextmanager
def propagate(
    pipe: Any, keys: Keys = "paper", parallel: bool = True, alpha: float = ALPHA, mode: Mode = "encoder"
) -> Iterator[Counts]:
    """Let a pipeline of diffusers (SD, SDXL, IF, ControlNet, AnimateDiff, text-to-video, DiT, ...) reuse features.

    Args:
        pipe: has a `unet`, or a DiT's `transformer`, and a `scheduler`; a `controlnet` is propagated too.
        keys: key steps, see `projects.faster_diffusion.keys`; a list is of the numbers of steps that you sample with.
        parallel: decode all steps up to the next key step as one batch: faster, for more memory.
        alpha: of the prior noise injection; 0 for none.
        mode: what is reused.

    Raises:
        UserError: a pipeline without such a network, or compiled; then, while it samples, key steps that do not go with
            its number of steps.
    """
    if parallel and mode != "encoder":
        raise UserError(f"mode '{mode}' does not decode in parallel: give parallel=False")
    network = denoiser(pipe)
    if mode != "encoder" and not hasattr(network, "up_blocks"):
        raise UserError(f"mode '{mode}' reuses up blocks, which {type(network).__name__} has not")
    follow = functools.partial(Trajectory, pipe, pipe.scheduler, keys)
    propagation = Propagation(network, follow(), parallel, mode)
    with ExitStack() as stack:
        for number, module in enumerate(propagation.parts):
            stack.enter_context(answering(module, functools.partial(propagation.part, number)))
        stack.enter_context(answering(network, propagation))
        control = getattr(pipe, "controlnet", None)
        if isinstance(control, nn.Module) and mode != "decoder":
            stack.enter_context(answering(control, Repeated(control, follow())))
        if alpha:
            stack.enter_context(injecting(follow(), alpha, before=not parallel))
        yield propagation.counts


def denoiser(pipe: Any) -> nn.Module:
    """The network of a pipeline that foresees the noise; UserError where there is none that can be propagated."""
    network = getattr(pipe, "unet", None)
    network = getattr(pipe, "transformer", None) if network is None else network
    if hasattr(network, "_orig_mod") or getattr(network, "_compiled_call_impl", None) is not None:
        raise UserError("the pipeline's network is compiled: propagate one that is not")
    if not isinstance(network, nn.Module) or not hasattr(pipe, "scheduler"):
        raise UserError(f"{type(pipe).__name__} has no U-Net and scheduler to propagate")
    if hasattr(network, "_answered"):
        raise UserError("the pipeline is propagated already: leave the first `with propagate(...)` before the next one")
    encoder_of(network)
    return network


def encoder_of(network: nn.Module) -> list[nn.Module]:
    """The modules that make what a decoder reads: everything before the up blocks; of a DiT its first 18 of 28 blocks.

    Raises:
        UserError: it is neither.
    """
    parts: Any = network
    if hasattr(network, "down_blocks") and hasattr(network, "up_blocks"):
        first = [parts.conv_in, *([parts.transformer_in] if hasattr(network, "transformer_in") else [])]
        middle = [] if getattr(network, "mid_block", None) is None else [parts.mid_block]
        return [*first, *parts.down_blocks, *middle]
    if type(network).__name__ == "DiTTransformer2DModel":
        return [parts.pos_embed, *parts.transformer_blocks[: round(DIT_ENCODER * len(parts.transformer_blocks))]]
    raise UserError(f"{type(network).__name__} is neither a U-Net of diffusers nor a DiT: there is no encoder to reuse")


@contextmanager
def answering(module: nn.Module, answer: Callable[..., Any]) -> Iterator[None]:
    """Let `answer(call, *args, **kwargs)` take a module's calls; `call` is the module as it was.

    The module gets another class for so long: unlike its `forward`, nothing else (offloading, hooks) exchanges that.
    """
    kind = type(module)

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return answer(functools.partial(kind.__call__, self), *args, **kwargs)

    module.__class__ = type(
        kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__, "_answered": True}
    )
    try:
        yield
    finally:
        module.__class__ = kind


class Trajectory:
    """Where a network is, from the times that it is asked for: `place`, which of them, and `call`, which within it."""

    def __init__(self, pipe: Any, scheduler: Any, keys: Keys):
        self.pipe, self.scheduler, self.keys = pipe, scheduler, keys
        self.times: Any = None
        self.values: list[float] = []
        self.key: tuple[int, ...] = ()
        self.place, self.call = -1, 0

    def at(self, timestep: Tensor | float) -> bool:
        """Move to where this time is; whether a new run of the pipeline begins there.

        Raises:
            UserError: another scheduler, a time that it has not, or key steps that do not go with its number of steps.
        """
        if self.pipe.scheduler is not self.scheduler:
            raise UserError("the pipeline's scheduler was exchanged: do that before `propagate`")
        began = self.scheduler.timesteps is not self.times  # every run sets them anew
        if began:
            self.times, self.place = self.scheduler.timesteps, -1
            self.values = self.times.tolist()
            self.key = key_steps(self.keys, self.steps())
        t = torch.as_tensor(timestep).flatten()[0].item()
        if self.values[self.place + 1 : self.place + 2] == [t]:
            self.place, self.call = self.place + 1, 0
        elif self.place >= 0 and self.values[self.place] == t:
            self.call += 1
        elif t in self.values:  # a run from the middle, as from a picture
            self.place, self.call = self.values.index(t), 0
        else:
            raise UserError(f"the network was asked for time {t:g}, which its scheduler has not")
        return began

    def steps(self) -> int:
        """What key steps are counted in: calls; but the paper's sets are named by steps, and PNDM calls once more."""
        named = isinstance(self.keys, str) and self.keys in NAMED and self.scheduler.order == 1
        return (named and getattr(self.scheduler, "num_inference_steps", None)) or len(self.values)

    @property
    def group(self) -> Tensor:
        """The times of this place and of those up to the next key step."""
        return self.times[self.place : next((key for key in self.key if key > self.place), len(self.values))]


class Propagation:
    """Answers a network's calls: in full at key steps, at others from what its modules said at the last one.

    A pipeline that calls its network several times a step has a memory for each of these calls. Where the batch is of
    another size than the one in memory, as when guidance ends, a step is computed in full.
    """

    def __init__(self, network: nn.Module, trajectory: Trajectory, parallel: bool, mode: Mode):
        self.trajectory, self.parallel, self.mode = trajectory, parallel, mode
        self.names = inspect.signature(type(network).forward)
        encoder = [] if mode == "decoder" else encoder_of(network)
        decoder = [] if mode == "encoder" else list(network.up_blocks)[:-1]  # type: ignore[arg-type]
        self.parts = [*encoder, *decoder]
        self.counts = Counts()
        self.copies, self.reusing = 1, False
        self.forget()

    def forget(self) -> None:
        self.memory: dict[tuple[int, int], Any] = {}  # by call and module: what it said
        self.ready: dict[tuple[int, int], Any] = {}  # by call and place: noise that has been foreseen
        self.shapes: dict[int, list[torch.Size]] = {}  # by call

    def __call__(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        """A call of the network."""
        given = arguments(self.names, None, *args, **kwargs)
        if self.trajectory.at(given["timestep"]):
            self.forget()
        number, place = self.trajectory.call, self.trajectory.place
        sample: Any = given.get("sample", given.get("hidden_states"))
        shapes = [x.shape for x in (sample, given.get("encoder_hidden_states")) if x is not None]
        known = self.shapes.get(number) == shapes
        self.shapes[number] = shapes
        if known and (number, place) in self.ready:
            return self.ready.pop((number, place))
        self.reusing = known and not self.parallel and place not in self.trajectory.key
        times = self.trajectory.group if self.parallel else self.trajectory.times[place : place + 1]
        self.copies, rows = len(times), len(sample)
        if self.copies > 1:
            given = tree_map_only(Tensor, lambda x: repeated(x, self.copies) if along(x, rows) else x, given)
            given["timestep"] = times.to(sample.device).repeat_interleave(rows)
        self.count(rows)
        said = call(**given)
        if self.copies == 1:
            return said
        for step, noise in enumerate(said[0].chunk(self.copies)):
            self.ready[number, place + step] = (noise,) if isinstance(said, tuple) else type(said)(sample=noise)
        return self.ready.pop((number, place))

    def part(self, number: int, call: Call, *args: Any, **kwargs: Any) -> Any:
        """A call of one of the modules that are reused. What is kept is a copy: some pipelines add to what is said."""
        at = (self.trajectory.call, number)
        if self.reusing:
            return tree_map_only(Tensor, torch.zeros_like if self.mode == "drop" else torch.clone, self.memory[at])
        if self.copies > 1:  # the same rows for every step of the group: once is enough
            args, kwargs = tree_map_only(
                Tensor, lambda x: x[: len(x) // self.copies] if along(x, self.copies) else x, (args, kwargs)
            )
            return tree_map_only(Tensor, lambda x: repeated(x, self.copies), call(*args, **kwargs))
        said = call(*args, **kwargs)
        if not self.parallel:
            self.memory[at] = tree_map_only(Tensor, torch.clone, said)
        return said

    def count(self, rows: int) -> None:
        if self.mode == "decoder" or not self.reusing:
            self.counts.encoder_calls += 1
        if self.mode == "encoder" or not self.reusing:
            self.counts.decoder_calls += 1
            self.counts.decoder_rows += rows * self.copies


class Repeated:
    """Answers a ControlNet's calls: it is an encoder too, and runs at key steps."""

    def __init__(self, network: nn.Module, trajectory: Trajectory):
        self.trajectory, self.names = trajectory, inspect.signature(type(network).forward)
        self.said: dict[int, tuple[torch.Size, Any]] = {}

    def __call__(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        given = arguments(self.names, None, *args, **kwargs)
        if self.trajectory.at(given["timestep"]):
            self.said = {}
        number, shape = self.trajectory.call, given["sample"].shape
        if self.trajectory.place in self.trajectory.key or self.said.get(number, [None])[0] != shape:
            self.said[number] = shape, call(*args, **kwargs)
        return tree_map_only(Tensor, torch.clone, self.said[number][1])


@contextmanager
def injecting(trajectory: Trajectory, alpha: float, before: bool) -> Iterator[None]:
    """Prior noise injection: z <- z + alpha z_T at every step in the later half of the training's times.

    Args:
        before: the network sees the step's noise; otherwise it is added between network and scheduler. The official
            code does the former in sequence and the latter in parallel.
    """
    scheduler = trajectory.scheduler
    plain = scheduler.step
    first: Any = None
    names = inspect.signature(plain)

    def late(place: int) -> bool:
        known = trajectory.values[place : place + 1]
        return bool(known) and known[0] < UNTIL * scheduler.config.num_train_timesteps

    @functools.wraps(plain)
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal first
        given = arguments(names, *args, **kwargs)
        if trajectory.at(given["timestep"]):
            first = given["sample"] / float(scheduler.init_noise_sigma)
        if not before and late(trajectory.place):
            given["sample"] = given["sample"] + alpha * first
        said = plain(**given)
        if not before or not late(trajectory.place + 1):
            return said
        if isinstance(said, tuple):
            return said[0] + alpha * first, *said[1:]
        said.prev_sample = said.prev_sample + alpha * first
        return said

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def arguments(names: inspect.Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by their names, without `self`."""
    given = dict(names.bind(*args, **kwargs).arguments)
    given.pop("self", None)
    return given | given.pop("kwargs", {})


def along(values: Tensor, rows: int) -> bool:
    """Whether a tensor has so many rows, or a multiple of them (frames of each)."""
    return values.ndim > 0 and len(values) % rows == 0


def repeated(values: Tensor, times: int) -> Tensor:
    """[B, ...] -> [times * B, ...]: the whole batch for the first step, then for the second one, ..."""
    return values.repeat(times, *[1] * (values.ndim - 1))
