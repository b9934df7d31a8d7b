"""Counts what a step costs without running it: operations and memory.

A step runs on fake tensors (meta tensors that claim a device), so autocast, autograd and the choice of attention
kernels are the real ones; nothing is computed and no weights are needed.
"""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks.planning.cost import Arithmetic, Cost, Memory, Operation, Polynomial
from benchmarks.planning.memo import Memo
from common.errors import UserError
from common.training.flops import FORMULAS
from common.workload import Workload

CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}
HALF = (torch.bfloat16, torch.float16)
LARGEST_BATCH = 1 << 20
BATCHES = np.unique(np.geomspace(1, LARGEST_BATCH, 500).astype(int))
"""At which the worst moment of a step is looked for: 3 % apart."""

MEMO = Memo()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def arithmetic(dtype: torch.dtype, packet: Any) -> Arithmetic:
    """PyTorch uses TF32 for convolutions, and not for products, unless it is told to."""
    return "bf16" if dtype in HALF else "tf32" if packet in CONVOLUTIONS else "fp32"


class StepMeter(TorchDispatchMode):
    """Sees every operation below autograd and autocast, in the forward and in the backward pass.

    Args:
        mode: of fake tensors; None for real ones.

    Attributes:
        flop: floating-point operations of products and convolutions; a multiply-add is two.
        operations: (arithmetic, FLOP, bytes read and written) -> how often; views are none.
        sizes: bytes of every tensor made here, in order.
        events: (k, 1) when tensor k is made, (k, -1) when the last that holds it lets go.
        beside: the same, but that a tensor goes as soon as it is a parameter's gradient.
        forward, split: FLOP and number of events of the forward pass.
    """

    def __init__(self, mode: FakeTensorMode | None = None):
        super().__init__()
        self.mode = mode
        self.flop, self.forward, self.split = 0, 0, 0
        self.operations: Counter[tuple[Arithmetic, int, int]] = Counter()
        self.sizes: list[int] = []
        self.events: list[tuple[int, int]] = []
        self.beside: list[tuple[int, int]] = []
        self._numbers = WeakIdKeyDictionary()
        self._running = True

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._running = False

    @property
    def backward(self) -> int:
        return self.flop - self.forward

    def turn(self) -> None:
        """Note that the forward pass is over."""
        self.forward, self.split = self.flop, len(self.events)

    def settle(self, parameter: Tensor) -> None:
        """Note that a parameter's gradient is complete."""
        number = self._numbers.get(parameter.grad.untyped_storage())  # type: ignore[union-attr]
        if number is not None:
            self.beside.append((number, -1))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return args[0].fake_device  # two of three calls: autograd asks for it all the time
        if func.namespace == "prim":
            return func(*args, **kwargs)
        out = MEMO.call(self.mode, func, args, kwargs) if self.mode else func(*args, **kwargs)
        returns = func._schema.returns
        results = (out,) if len(returns) == 1 else out
        fresh = [_tensors(result) for result, declared in zip(results, returns, strict=True) if not declared.alias_info]
        for tensor in (tensor for tensors in fresh for tensor in tensors):
            self._hold(tensor)
        if fresh or func._schema.is_mutable:  # views move nothing
            self._count(func._overloadpacket, args, kwargs, out, _tensors((args, kwargs)), _tensors(out))
        return out

    def _count(self, packet: Any, args: Any, kwargs: Any, out: Any, read: list[Tensor], made: list[Tensor]) -> None:
        flop = FORMULAS[packet](*args, **kwargs, out_val=out) if packet in FORMULAS else 0
        dtype = next((tensor.dtype for tensor in read if tensor.is_floating_point()), torch.float32)
        traffic = sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in (*read, *made))
        self.flop += flop
        self.operations[arithmetic(dtype, packet) if flop else "fp32", flop, traffic] += 1

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._numbers:
            return
        number = len(self.sizes)
        self._numbers[storage] = number
        self.sizes.append(storage.nbytes())
        self._note(number, 1)
        weakref.finalize(storage, self._note, number, -1).atexit = False

    def _note(self, number: int, comes: int) -> None:
        if self._running:
            self.events.append((number, comes))
            self.beside.append((number, comes))


AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


def materialise(workload: Workload, precision: str) -> None:
    """Turn a workload's meta networks into fake ones, in place, in the precision's dtype. What is shared stays so."""
    modelled = ["32-true", *AUTOCAST, *TRUE]
    if precision not in modelled:
        raise UserError(f"precision {precision} is not modelled; these are: {', '.join(modelled)}")
    model = workload.model
    if precision in TRUE:
        model.to(TRUE[precision])
    made: dict[Tensor, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            own = [module.named_parameters(recurse=False, remove_duplicate=False), module.named_buffers(recurse=False)]
            for name, tensor in [pair for pairs in own for pair in pairs]:
                if tensor not in made:
                    empty = torch.empty_like(tensor, device="cpu")
                    trained = isinstance(tensor, nn.Parameter)
                    made[tensor] = nn.Parameter(empty, tensor.requires_grad) if trained else empty
                setattr(module, name, made[tensor])


def measure(workload: Workload, batch: int, precision: str) -> StepMeter:
    """Run one step of `batch` samples on a materialised workload."""
    trained = [parameter for parameter in workload.model.parameters() if parameter.requires_grad]
    mode = next(workload.model.parameters()).fake_mode  # type: ignore[attr-defined]
    meter = StepMeter(mode)
    hooks = [parameter.register_post_accumulate_grad_hook(meter.settle) for parameter in trained]
    cast = torch.autocast("cpu", AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()
    with _uncollected(), mode, meter, torch.set_grad_enabled(bool(trained)):
        with cast:
            loss = workload.step(batch)
        meter.turn()
        if trained:
            loss.backward()
    for hook in hooks:
        hook.remove()
    workload.model.zero_grad(set_to_none=True)
    return meter


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would free what is in cycles at another moment every time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def count(workload: Workload, precision: str, growing: bool = True) -> Cost:
    """The cost of a stage's step, with its networks on the meta device.

    Args:
        growing: whether memory is asked for at other batches too, which takes a second measurement.
    """
    materialise(workload, precision)
    parameters = list(workload.model.parameters())
    held = [*parameters, *workload.model.buffers()]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in trained)
    step = measure(workload, workload.batch, precision)
    double = measure(workload, 2 * workload.batch, precision) if growing else step
    return Cost(
        trained=numbers,
        frozen=sum(parameter.numel() for parameter in parameters) - numbers,
        weights=sum(tensor.nbytes for tensor in held),
        gradients=sum(tensor.nbytes for tensor in trained),
        batch=workload.batch,
        forward=step.forward,
        backward=step.backward,
        operations=tuple(Operation(*kind, times) for kind, times in sorted(step.operations.items())),
        memory=memory(step, double, workload.batch),
        samples=workload.samples,
        unit=workload.unit,
        optimizer_bytes=workload.optimizer_bytes,
        fused=workload.fused,
        loader_seconds=workload.loader_seconds,
        workers=workload.workers,
        reported=workload.reported,
    )


def memory(step: StepMeter, double: StepMeter, batch: int) -> Memory:
    """What a step holds at any batch, from one of `batch` samples and one of twice as many."""
    parts = []
    for events, others, part in (
        (step.events, double.events, slice(None, step.split)),
        (step.events, double.events, slice(step.split, None)),
        (step.beside, double.beside, slice(step.split, None)),
    ):
        if sorted(events) == sorted(others):  # in whatever order sets and dictionaries let go of tensors
            parts.append(_worst(_held(growth(step.sizes, double.sizes, batch), events, part)))
        else:  # another batch, other operations: what is left to compare is the worst moment of each
            own = _held(growth(step.sizes, step.sizes, batch), events, part)[:, 0].max()
            theirs = slice(*(double.split if end == step.split else end for end in (part.start, part.stop)))
            twice = _held(growth(double.sizes, double.sizes, batch), others, theirs)[:, 0].max()
            parts.append(_worst(growth([own], [twice], batch)))
    return Memory(*parts)


def growth(one: list[int], double: list[int], batch: int) -> np.ndarray:
    """Sizes as polynomials of the batch [K, 3], from those at `batch` and at twice as many samples.

    What at most doubles has a part that stays and one that grows with the batch. What grows faster is made of pairs of
    samples (the logits of a contrastive loss).
    """
    s, t = np.array(one, dtype=float), np.array(double, dtype=float)
    none = np.zeros_like(s)
    linear = np.stack([2 * s - t, (t - s) / batch, none], 1)
    square = np.stack([none, (4 * s - t) / (2 * batch), (t - 2 * s) / (2 * batch**2)], 1)
    return np.where((t > 2 * s)[:, None], square, linear)


def _held(sizes: np.ndarray, events: list[tuple[int, int]], part: slice) -> np.ndarray:
    """All that is held after each event of a part of a step, and before it, [E + 1, 3], for sizes [K, 3]."""
    numbers, signs = np.array(events, dtype=int).reshape(-1, 2).T
    course = np.concatenate([np.zeros((1, 3)), np.cumsum(sizes[numbers] * signs[:, None], 0)])
    return course[part.start : part.stop + 1 if part.stop is not None else None]


def _worst(course: np.ndarray) -> tuple[Polynomial, ...]:
    """Those of polynomials [E, 3] that are the largest at some batch."""
    found = {int(np.argmax(course @ (1.0, n, float(n) * n))) for n in BATCHES}
    return tuple(dict.fromkeys((float(a), float(b), float(c)) for a, b, c in course[sorted(found)]))
