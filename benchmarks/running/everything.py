"""`make reproduce PAPER=all`: every recipe, two side by side at most, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.running.recipes import ROOT

SIDE_BY_SIDE = 2


@dataclass
class Running:
    """A recipe at work, and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float


def reproduce_all(
    papers: list[str], arguments: list[str], runs: Path, console: Console, jobs: int = 0, side_by_side: int = 1
) -> int:
    """Run `python -m benchmarks.reproduce <paper> <arguments>` for each paper, and print its output in one piece.

    What is done before is not done again. Recipes that share a foundation wait for whichever trains it.

    Args:
        runs: each output is also kept as `<runs>/<paper>/reproduce.log`.
        jobs: stages side by side, over all recipes; 0 for one a core at mini scale.
        side_by_side: recipes at the same time.

    Returns:
        the largest exit code, 130 after Ctrl-C.
    """
    waiting, running, codes = list(papers), dict[str, Running](), dict[str, int]()
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                alone = side_by_side == 1 or not running and len(waiting) == 1
                share = jobs if alone else max(1, (jobs or os.cpu_count() or 1) // side_by_side)
                paper = waiting.pop(0)
                running[paper] = _start(paper, [*arguments, "--jobs", str(share)], runs)
                console.print(Text.assemble("start  ", (paper, "bold")))
            for paper in [paper for paper, one in running.items() if one.process.poll() is not None]:
                one = running.pop(paper)
                codes[paper] = one.process.returncode
                console.print(Text(one.log.read_text(encoding="utf-8", errors="replace")), soft_wrap=True)
                said = "ok" if codes[paper] == 0 else "failed"
                console.print(Text.assemble((paper, "bold"), f": {said}, {time.monotonic() - one.started:.0f} s\n"))
            time.sleep(0.2)
    except KeyboardInterrupt:
        for one in running.values():
            with suppress(ProcessLookupError):
                one.process.send_signal(signal.SIGINT)
        for one in running.values():
            one.process.wait()
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    failed = sorted(paper for paper, code in codes.items() if code)
    console.print(
        f"{len(codes) - len(failed)} of {len(codes)} recipes ok" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return max(codes.values(), default=0)


def _start(paper: str, arguments: list[str], runs: Path) -> Running:
    log = ROOT / runs / paper / "reproduce.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.reproduce", paper, *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    return Running(process, log, time.monotonic())
