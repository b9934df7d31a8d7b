"""A stage in a warm worker starts and ends at once, and the bench says where the time goes."""

import io

from rich.console import Console

from benchmarks.measuring.starting import idle_stages, show


def test_a_stage_that_trains_nothing_costs_little() -> None:
    found = idle_stages(2)
    assert found["processor_s"] < 1 and found["least_s"] < 2, found
    console = Console(file=io.StringIO(), record=True)
    show(found, console)
    shown = console.export_text()
    for part in ("start the worker", "build the parser", "start W&B", "two steps", "from start to end"):
        assert part in shown
    wall = sum(seconds for seconds, _ in found["parts"].values())
    assert 0.5 * found["least_s"] < wall < 2 * found["most_s"]
