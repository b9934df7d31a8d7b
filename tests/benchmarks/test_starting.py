"""A stage in a warm worker starts and ends at once, and the bench says where the time goes."""

import io

from rich.console import Console

from benchmarks.measuring.starting import idle_stages, show


def test_a_stage_that_trains_nothing_costs_little() -> None:
    found = idle_stages(2)
    assert found["processor_s"] < 1, found  # by the clock it takes longer on a busy machine
    console = Console(file=io.StringIO(), record=True)
    show(found, console)
    shown = console.export_text()
    for part in ("start the worker", "build the parser", "start W&B", "two steps", "from start to end"):
        assert part in shown
