"""Processor-seconds of a recipe's tests and of its rehearsal, and what they may be (CONTRIBUTING.md)."""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.running import certificates, runner

STARTED, TOOK = "processor_seconds_before", "processor_seconds"
TESTS, REHEARSAL = 30, certificates.BUDGET
"""Processor-seconds of a recipe's own tests, and of its rehearsal."""
RECIPES, HOUSE = 46, 2 * 20 * 60
"""Recipes of the whole house, and the processor-seconds of all tests then: 20 minutes on two cores."""


def processor_seconds() -> float:
    """Of this process, of those it started that have ended, and of the server of warm workers with its own."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + sum(runner.server_seconds())


def recipe_of(test: str, papers: Iterable[str]) -> str:
    """The recipe that a test is about; empty for the others. `test_mobilesam_v2.py` is not about `mobilesam`."""
    file = re.match(r"tests/projects/test_(\w+)\.py", test)
    fits = [paper for paper in papers if file and f"{file[1]}_".startswith(f"{paper}_")]
    return max(fits, key=len, default="")


def is_rehearsal(test: str) -> bool:
    """Whether a test is a recipe's rehearsal."""
    return re.match(r"tests/projects/test_\w+_rehearsal\.py::test_every_stage_runs", test) is not None


def table(
    took: list[tuple[str, float]], papers: list[str], certificate: Callable[[str], dict[str, Any] | None]
) -> tuple[list[str], list[str]]:
    """A line for every recipe and for the house, and what is over its budget.

    Args:
        took: tests by their ids, with the processor-seconds of each.
        certificate: reads a recipe's certificate, for rehearsals that were not among the tests.
    """
    tests: dict[str, float] = {}
    rehearsed: dict[str, float] = {}
    for test, seconds in took:
        paper = recipe_of(test, papers)
        kind = rehearsed if is_rehearsal(test) and seconds > 1 else tests  # less: it was skipped
        kind[paper] = kind.get(paper, 0.0) + seconds
    lines = [f"{'recipe':24}  tests (at most {TESTS})  rehearsal (at most {REHEARSAL})"]
    over = []
    for paper in papers:
        held = certificate(paper)
        rehearsal = rehearsed.get(paper) or (held["cpu_seconds"] if held else None)
        lines.append(f"{paper:24}  {tests.get(paper, 0):20.0f}  {'–' if rehearsal is None else f'{rehearsal:.0f}':>24}")
        if tests.get(paper, 0) > TESTS:
            over.append(f"{paper}: its tests take {tests[paper]:.0f} processor-seconds, {TESTS} are allowed")
        if (rehearsal or 0) > REHEARSAL:
            over.append(f"{paper}: its rehearsal takes {rehearsal:.0f} processor-seconds, {REHEARSAL} are allowed")
    others = tests.get("", 0.0)
    each = sum(tests.get(paper, 0.0) for paper in papers) / max(len(papers), 1)
    house = others + RECIPES * each + certificates.AT_A_TIME * REHEARSAL
    lines.append(f"{'all other tests':24}  {others:20.0f}")
    lines.append(
        f"a house of {RECIPES} recipes like these, nothing stale: {house:.0f} processor-seconds, "
        f"{house / 120:.0f} minutes on two cores"
    )
    if house > HOUSE:
        over.append(f"a house of {RECIPES}: {house / 120:.0f} minutes on two cores, {HOUSE // 120} are allowed")
    return lines, over
