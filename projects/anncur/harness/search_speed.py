"""Time and memory of the search step, beside one bare matrix-vector product and a top-k over the same embeddings.

    python -m projects.anncur.harness.search_speed --items 1000000 --anchors 100 [--device cuda] [--half]

The scorer's calls, which cost far more, are left out.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from projects.anncur.index import Index, draw_anchors


class Measured(NamedTuple):
    """Median milliseconds of the search step and of the bare operations; MiB of the index and of what a search adds."""

    search_ms: float
    bare_ms: float
    index_mib: float
    extra_mib: float


def measure(index: Index, retrieved: int, repeats: int = 15) -> Measured:
    """Search with random scores of the anchor items; the two are timed in turn."""
    embeddings = index.embeddings
    queries = np.random.default_rng(0).standard_normal((repeats + 1, len(index.anchors)))
    on_device = torch.as_tensor(queries, dtype=embeddings.dtype, device=embeddings.device)
    times: dict[str, list[float]] = {"search": [], "bare": []}
    for number in range(repeats + 1):
        times["search"].append(_ms(lambda n=number: index.retrieve(queries[n], retrieved)))
        times["bare"].append(_ms(lambda n=number: (embeddings @ on_device[n]).topk(retrieved).indices.cpu()))
    search, bare = (float(np.median(found[1:])) for found in times.values())  # the first of each warms up
    extra = _extra_mib(lambda: index.retrieve(queries[0], retrieved), embeddings.device)
    return Measured(search, bare, embeddings.nbytes / 2**20, extra)


def _ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()  # ends with its result on the CPU
    return 1000 * (time.perf_counter() - started)


def _extra_mib(call: Callable[[], object], device: torch.device) -> float:
    """The most memory that a call holds beyond what was held before: on a GPU allocated, on Linux resident."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew from what is resident now
    before = _resident("VmRSS")
    call()
    return max(0.0, _resident("VmHWM") - before)


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m projects.anncur.harness.search_speed", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="N")
    parser.add_argument("--anchors", type=int, default=100, help="k_i")
    parser.add_argument("--retrieved", type=int, default=100, help="items to re-rank")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="embeddings in float16")
    options = parser.parse_args()
    embeddings = torch.randn(options.items, options.anchors, generator=torch.Generator().manual_seed(0))
    index = Index(draw_anchors(options.items, options.anchors, 0), embeddings)
    index = index.to(options.device, torch.float16 if options.half else torch.float32)
    found = measure(index, options.retrieved)
    threads = torch.get_num_threads()
    print(f"{options.items:,} items, {options.anchors} anchor items, {options.device}, {threads} CPU threads")
    print(f"search step       {found.search_ms:8.1f} ms, {found.extra_mib:.0f} MiB on top of {found.index_mib:.0f}")
    print(f"product and top-k {found.bare_ms:8.1f} ms")


if __name__ == "__main__":
    main()
