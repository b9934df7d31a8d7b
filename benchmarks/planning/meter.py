"""Counts what a step costs without running it: operations, memory and an estimate of its time.

A step runs on fake tensors (meta tensors that claim a device), so autocast, autograd and the choice of attention
kernels are the real ones; nothing is computed and no weights are needed.
"""

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from common.errors import UserError
from common.training.flops import FORMULAS
from common.workload import Workload

LAUNCH = 5e-6  # seconds: a kernel's launch from eager PyTorch, which no operation undercuts
CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}


@dataclass(frozen=True)
class Gpu:
    """A device's figures: memory in GB, bandwidth in GB/s, dense peaks in TFLOP/s."""

    name: str
    memory: float
    bandwidth: float
    bf16: float
    tf32: float
    fp32: float
    source: str

    def peak(self, dtype: torch.dtype, operation: Any) -> float:
        """FLOP/s for an operation: PyTorch uses TF32 for convolutions, and not for products, unless it is told to."""
        if dtype in (torch.bfloat16, torch.float16):
            return self.bf16 * 1e12
        return (self.tf32 if operation in CONVOLUTIONS else self.fp32) * 1e12


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class StepMeter(TorchDispatchMode):
    """Sees every operation below autograd and autocast, in the forward and in the backward pass.

    Attributes:
        flops: floating-point operations of products and convolutions; a multiply-add is two.
        seconds: the sum over operations of the longest of arithmetic, memory traffic and launch, by which it was.
        live, peak: bytes of all tensors made here that are, or were at most, alive at once.
    """

    def __init__(self, gpu: Gpu, utilisation: float):
        super().__init__()
        self.gpu, self.utilisation = gpu, utilisation
        self.flops, self.live, self.peak = 0, 0, 0
        self.seconds = {"arithmetic": 0.0, "memory": 0.0, "launch": 0.0}
        self._storages = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return args[0].fake_device  # two of three calls: autograd asks for it all the time
        out = func(*args, **kwargs)
        if func.namespace == "prim":
            return out
        returns = func._schema.returns
        results = (out,) if len(returns) == 1 else out
        fresh = [_tensors(result) for result, declared in zip(results, returns, strict=True) if not declared.alias_info]
        for tensor in (tensor for tensors in fresh for tensor in tensors):
            self._hold(tensor)
        if fresh or func._schema.is_mutable:  # views move nothing
            self._time(func._overloadpacket, args, kwargs, out, _tensors((args, kwargs)), _tensors(out))
        return out

    def _time(self, packet: Any, args: Any, kwargs: Any, out: Any, read: list[Tensor], made: list[Tensor]) -> None:
        flops = FORMULAS[packet](*args, **kwargs, out_val=out) if packet in FORMULAS else 0
        dtype = next((tensor.dtype for tensor in read if tensor.is_floating_point()), torch.float32)
        traffic = sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in (*read, *made))
        times = {
            "arithmetic": flops / (self.gpu.peak(dtype, packet) * self.utilisation),
            "memory": traffic / (self.gpu.bandwidth * 1e9 * self.utilisation),
            "launch": LAUNCH,
        }
        bound = max(times, key=lambda name: times[name])
        self.flops += flops
        self.seconds[bound] += times[bound]

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._storages:
            return
        self._storages[storage] = True
        size = storage.nbytes()
        weakref.finalize(storage, self._release, size).atexit = False
        self.live += size
        self.peak = max(self.peak, self.live)

    def _release(self, size: int) -> None:
        self.live -= size


@dataclass(frozen=True)
class Step:
    """A step of a batch on one device, without the optimiser's own work. Bytes, FLOP, seconds."""

    forward_flops: int
    backward_flops: int
    forward_peak: int
    backward_peak: int
    seconds: dict[str, float]


AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


def materialise(workload: Workload, precision: str) -> None:
    """Turn a workload's meta networks into fake ones, in place, in the precision's dtype."""
    modelled = ["32-true", *AUTOCAST, *TRUE]
    if precision not in modelled:
        raise UserError(f"precision {precision} is not modelled; these are: {', '.join(modelled)}")
    if precision in TRUE:
        workload.model.to(TRUE[precision])
    with FakeTensorMode(allow_non_fake_inputs=True):
        workload.model.to_empty(device="cpu")


def measure(workload: Workload, batch: int, precision: str, gpu: Gpu, utilisation: float) -> Step:
    """Run one step of `batch` samples on a materialised workload."""
    trained = any(parameter.requires_grad for parameter in workload.model.parameters())
    mode = next(workload.model.parameters()).fake_mode  # type: ignore[attr-defined]
    meter = StepMeter(gpu, utilisation)
    cast = torch.autocast("cpu", AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()
    with mode, meter, torch.set_grad_enabled(trained):
        with cast:
            loss = workload.step(batch)
        forward_flops, forward_peak = meter.flops, meter.peak
        meter.peak = meter.live
        if trained:
            loss.backward()
        step = Step(forward_flops, meter.flops - forward_flops, forward_peak, meter.peak, dict(meter.seconds))
    workload.model.zero_grad(set_to_none=True)
    return step
