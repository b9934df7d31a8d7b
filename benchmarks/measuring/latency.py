"""Size and speed of one variant of one network, in a process of its own, whose peak of memory is that network's.

python -m benchmarks.measuring.latency <paper> <network> <variant>       prints a line of JSON
"""

import importlib
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.running import recipes
from common.errors import UserError, unknown
from common.training.flops import flop_counter
from common.training.preset import channels_last, gains_from_bf16
from common.workload import Network, Speed

SECONDS = 15.0  # that the calls of a variant may take, after those that do not count
LEAST, MOST = 3, 100  # calls
GIANT = 5.0  # seconds: a network this slow has one call that does not count, others three


def load(paper: str) -> Speed:
    """What a recipe has to measure; UserError where it names nothing."""
    recipe = recipes.load(paper)
    if not recipe.speed:
        raise UserError(
            f"{paper} has nothing to measure: projects/{paper}/recipe.py names no `speed`. Write "
            f"projects/{paper}/harness/speed.py with a function () -> common.workload.Speed "
            f'(projects/mobilesam/harness/speed.py is one) and set speed="projects.{paper}.harness.speed:speed".'
        )
    module, name = recipe.speed.split(":")
    return getattr(importlib.import_module(module), name)()


def variants(network: Network) -> list[str]:
    """What is measured of a network; the plain one first. `fast` is what the fast preset does."""
    if network.giant:
        return ["eager", "fast"]
    return ["eager", "fast", "compiled", "fast, compiled", *(["onnxruntime"] if network.onnx else [])]


def time_calls(call: Callable[[], Any], seconds: float = SECONDS, compiles: bool = False) -> dict[str, Any]:
    """Milliseconds of a call: the first (which compiles, where something compiles), median and 95th percentile.

    On a CPU also the processor's time, over all threads, which other programs on the machine disturb less.
    """
    cuda = torch.cuda.is_available()

    def once() -> float:
        if cuda:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end)
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3

    first = once()
    second = once() if compiles else first
    if second < GIANT * 1e3:
        once(), once()
    times: list[float] = []
    processor: list[float] = []
    while len(times) < LEAST or (sum(times) < seconds * 1e3 and len(times) < MOST):
        before = time.process_time()
        times.append(once())
        processor.append((time.process_time() - before) * 1e3)
    return {
        "median_ms": round(float(np.median(times)), 3),
        "p95_ms": round(float(np.quantile(times, 0.95)), 3),
        "least_ms": round(min(times), 3),
        "first_ms": round(first, 3),
        "calls": len(times),
        **({} if cuda else {"processor_ms": round(float(np.median(processor)), 3)}),
    }


def peak_bytes() -> int:
    """The most memory that this process has held: on the GPU where there is one, else in all."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(network: Network, variant: str) -> dict[str, Any]:
    """Parameters, operations, milliseconds and bytes of one variant."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = peak_bytes()
    torch.manual_seed(0)
    model, inputs = network.build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model.requires_grad_(False)
    with torch.no_grad():
        if variant == "onnxruntime":
            found = time_calls(onnx_call(network, model, inputs))
        else:
            model, inputs = model.to(device), tuple(tensor.to(device) for tensor in inputs)
            fast = "fast" in variant
            if fast:
                channels_last(model)
            if "compiled" in variant:
                model.compile()
            with torch.autocast(device, torch.bfloat16, enabled=fast and gains_from_bf16()):
                found = time_calls(lambda: model(*inputs), compiles="compiled" in variant)
    return {"params": parameters, **found, "peak_bytes": peak_bytes(), "start_bytes": before}


def onnx_call(network: Network, model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    """The network in ONNX Runtime, with as many threads as torch has, on the GPU where that build can."""
    import onnxruntime

    assert network.onnx is not None
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "network.onnx"
    network.onnx(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), inputs, strict=True)}
    folder.cleanup()
    return lambda: session.run(None, feed)


def flops(network: Network) -> int:
    """Floating-point operations of a call; a multiply-add is two. A giant's are counted without running it."""
    device = torch.device("meta" if network.giant else "cpu")
    with device:
        model, inputs = network.build()
    with torch.no_grad(), flop_counter() as counter:  # called as it is measured: what it makes anew lies where it says
        model(*(tensor.to(device) for tensor in inputs))
    return counter.get_total_flops()


def main(arguments: list[str]) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    paper, name, variant = arguments
    networks = {network.name: network for network in load(paper).networks}
    if name not in networks:
        raise unknown("network", name, networks)
    print(json.dumps(measure(networks[name], variant)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
