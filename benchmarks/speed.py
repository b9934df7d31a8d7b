"""Measure a paper's size and speed claims on its real architectures with random weights, and what our own layers cost.

python -m benchmarks.speed mobilesam
python -m benchmarks.speed mobilesam --only networks       one part: networks, training, sources or start

Writes <runs>/<paper>/speed/<cpu or the GPU's name>.json; a part measured again replaces the old one. The committed
benchmarks/results/speed/<paper>.<device>.json are the reference, which `make accept PAPER=x SPEED=1` renews.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.running import results
from common.console import table_console
from common.errors import UserError, refuse_control_in, unknown, user_errors
from common.paths import runs_folder
from common.training.runs import hardware, updating, versions, write_json

PARTS = ("networks", "training", "sources", "start")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("paper", help="a recipe's name (`make list` shows them)")
    command.add_argument(
        "--only", default="", help=f"parts to measure, separated by commas (default: {','.join(PARTS)})"
    )
    command.add_argument("--networks", default="", help="only these networks, separated by commas")
    return command


def file_of(paper: str) -> Path:
    """The results file of a paper on this device."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return runs_folder() / paper / "speed" / f"{re.sub(r'[^a-z0-9]+', '-', device.lower())}.json"


def read(paper: str) -> dict[str, Any]:
    """What was measured before on this device; UserError where the file is damaged."""
    return results.read_speed(file_of(paper)) or {}


def networks(paper: str, speed: Any, chosen: list[str], console: Console) -> dict[str, Any]:
    """Every variant of the networks, each in a process of its own; a variant that fails is recorded with its error.

    Each is written as soon as it is measured, beside those that the file has already: the giants take minutes.

    Args:
        chosen: names of networks; empty for all.

    Returns:
        what the file holds of the recipe's networks in the end.
    """
    from benchmarks.measuring.latency import flops, variants
    from benchmarks.measuring.overhead import run

    names = [network.name for network in speed.networks]
    found: dict[str, Any] = {}
    for network in speed.networks:
        if chosen and network.name not in chosen:
            continue
        entry: dict[str, Any] = {"flops": flops(network), "against": network.against, "variants": {}}
        entry |= {"reported": dict(network.reported), "source": network.source}
        for variant in variants(network):
            console.print(Text(f"measuring {network.name}, {variant}", "dim"))
            try:
                made = json.loads(
                    run(["-m", "benchmarks.measuring.latency", paper, network.name, variant]).splitlines()[-1]
                )
            except UserError as error:
                entry["variants"][variant] = {"error": str(error).strip().splitlines()[-1]}
                continue
            entry["params"] = made.pop("params")
            entry["variants"][variant] = made
        found = write_network(paper, network.name, entry, names)
    return found


def write_network(paper: str, name: str, entry: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Put a network into the results file beside the recipe's others, with their ratios anew; returns them all."""
    with updating(file_of(paper)):
        before = (read(paper).get("networks") or {"found": {}})["found"]
        found = {known: one for known, one in {**before, name: entry}.items() if known in names}
        for known in found.values():
            if known["against"] in found:
                known["ratios"] = ratios(known, found[known["against"]])
        _write(paper, {"networks": found})
    return found


def milliseconds(variant: dict[str, Any]) -> float | None:
    """What ratios are made of: the processor's time on a CPU, the median of the GPU's clock on a GPU.

    None for a variant that does not run.
    """
    processor = variant.get("processor_ms")
    return variant.get("median_ms") if processor is None else processor


def ratios(entry: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How many times larger and slower the other network is, plain against plain; the paper's ratios beside it."""
    pairs = {name: (other.get(name), entry.get(name)) for name in ("params", "flops")}
    theirs, own = (milliseconds(side["variants"].get("eager", {})) for side in (other, entry))
    pairs["ms"] = (theirs, own)
    for name in set(entry["reported"]) & set(other["reported"]):
        pairs[f"reported_{name}"] = (other["reported"][name], entry["reported"][name])
    return {name: round(large / small, 2) for name, (large, small) in sorted(pairs.items()) if large and small}


def measure(paper: str, parts: list[str], chosen: list[str], console: Console) -> dict[str, Any]:
    """The parts that were asked for, each written as soon as it is measured."""
    from benchmarks.measuring.latency import load
    from benchmarks.measuring.overhead import reading, starting, training_overhead

    speed = load(paper)
    for name in chosen:
        if name not in (known := [network.name for network in speed.networks]):
            raise unknown("network", name, known)
    found: dict[str, Any] = {}
    steps: dict[str, Callable[[], Any]] = {
        "networks": lambda: networks(paper, speed, chosen, console),
        "training": lambda: training_overhead(paper, speed.training) if speed.training else None,
        "sources": lambda: {source.name: reading(source) for source in speed.sources},
        "start": lambda: starting(speed.training),
    }
    read(paper)  # a damaged file is said before anything is measured
    for part in parts:
        console.print(Text(f"measuring {part}", "dim"))
        found[part] = steps[part]()
        if part != "networks":
            write(paper, {part: found[part]})
    return found


def write(paper: str, found: dict[str, Any]) -> Path:
    """Put what was measured into the results file, with where and when; other parts of it stay."""
    with updating(file_of(paper)):
        return _write(paper, found)


def _write(paper: str, found: dict[str, Any]) -> Path:
    import torch

    file, old = file_of(paper), read(paper)
    made = {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "threads": torch.get_num_threads(),
        "load": round(
            os.getloadavg()[1], 1
        ),  # of five minutes; above the number of cores the clock's times are too long
        "hardware": hardware(),
        "versions": versions(),
    }
    parts = {part: {**made, "found": content} for part, content in found.items()}
    write_json(file, {"paper": paper, **old, **parts}, durable=True)
    return file


def print_found(found: dict[str, Any], console: Console) -> None:
    """A table per part."""
    for part, show in (
        ("networks", network_table),
        ("training", training_table),
        ("sources", source_table),
        ("start", start_table),
    ):
        if found.get(part):
            console.print(show(found[part]), "")


def _table(*heads: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position else "left", no_wrap=not position)
    return table


def network_table(found: dict[str, Any]) -> Table:
    from benchmarks.planning.units import duration, quantity

    table = _table(
        "network",
        "parameters",
        "FLOP",
        "variant",
        "median",
        "p95",
        "processor",
        "calls",
        "peak memory",
        "times faster",
        "the paper says",
    )
    units = {"params": quantity, "ms": "{:g} ms".format}
    for name, entry in found.items():
        says = [show(entry["reported"][key]) for key, show in units.items() if key in entry["reported"]]
        plain_ms = milliseconds(entry["variants"].get("eager", {}))
        for variant, made in entry["variants"].items():
            plain = variant == "eager"
            params = entry.get("params")
            sizes = ["?" if params is None else quantity(params), quantity(entry["flops"])]
            row = [Text(name, "bold"), *sizes] if plain else ["", "", ""]
            if "error" in made:
                table.add_row(*row, Text(variant), Text(made["error"][:60], "red"))
                continue
            own_ms = milliseconds(made) or 0.0
            faster = entry.get("ratios", {}).get("ms") if plain else None
            if not plain and plain_ms and own_ms:
                faster = round(plain_ms / own_ms, 2)
            table.add_row(
                *row, Text(variant), duration(made["median_ms"] / 1e3), duration(made["p95_ms"] / 1e3),
                duration(own_ms / 1e3), str(made["calls"]),
                quantity(made["peak_bytes"], "B"), "" if faster is None else f"{faster:g}",
                Text(f"{', '.join(says)} ({entry['source']})" if plain and says else "", "dim"),
            )  # fmt: skip
    return table


def training_table(found: dict[str, Any]) -> Table:
    table = _table("a mini training step", "mean", "median", "p95", "processor ms, by round", "against the bare loop")
    bare = found["bare loop"]["processor_ms"]
    for name, rounds in found["rounds"].items():
        made = found[name]
        cells = [f"{made[key]:.2f} ms" for key in ("mean_ms", "median_ms", "p95_ms")]
        table.add_row(
            Text(name, "bold"), *cells, " ".join(f"{x:.2f}" for x in rounds), f"{made['processor_ms'] / bare - 1:+.1%}"
        )
    return table


def source_table(found: dict[str, Any]) -> Table:
    table = _table("reading, one process", "samples a second", "median", "p95")
    for name, made in found.items():
        table.add_row(
            Text(name, "bold"), f"{made['samples_per_second']:g}", f"{made['median_ms']:g} ms", f"{made['p95_ms']:g} ms"
        )
    return table


def start_table(found: dict[str, Any]) -> Table:
    table = _table("starting up", "median", "least", "most", "processor time", "limit")
    for name, made in found.items():
        cells = [f"{made[f'{key}_s']:.2f} s" for key in ("median", "least", "most", "processor", "limit")]
        table.add_row(Text(name, "bold"), *cells, style="" if made["median_s"] <= made["limit_s"] else "red")
    return table


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    refuse_control_in(options)
    console = table_console(150)
    parts = [part for part in options.only.split(",") if part] or list(PARTS)
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    chosen = [name.strip() for name in options.networks.split(",") if name.strip()]
    found = measure(options.paper, parts, chosen, console)
    print_found(found, console)
    console.print(Text(f"results  {file_of(options.paper)}"), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
