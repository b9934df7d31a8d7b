"""PAPER=all: every recipe in a process of its own, two at a time; one that fails hides none of the others."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from benchmarks import reproduce
from benchmarks.running import everything, recipes

STAND_IN = """
import pathlib, sys, time
paper = sys.argv[1]
folder = pathlib.Path({folder!r})
(folder / paper).write_text(" ".join(sys.argv[2:]))
(folder / f"{{paper}}.start").write_text(str(time.time()))
time.sleep({seconds})
(folder / f"{{paper}}.end").write_text(str(time.time()))
print("this is", paper)
sys.exit({codes}.get(paper, 0))
"""


@pytest.fixture
def children(tmp_path, monkeypatch):
    """Have a few lines of Python take the place of a recipe's reproduction."""

    def stand_in(seconds: float = 0.0, codes: dict | None = None):
        code = STAND_IN.format(folder=str(tmp_path), seconds=seconds, codes=codes or {})
        plain = subprocess.Popen
        monkeypatch.setattr(
            everything.subprocess,
            "Popen",
            lambda command, **rest: plain([sys.executable, "-c", code, *command[3:]], **rest),
        )

    return stand_in


def test_one_failure_is_the_exit_code_and_hides_no_other(children, tmp_path, monkeypatch, capsys):
    children(codes={"second": 2})
    monkeypatch.setattr(recipes, "names", lambda: ["first", "second", "third"])
    runs = tmp_path / "runs"
    assert reproduce.main(["all", "--scale", "rehearsal", "--seeds", "1", "--runs", str(runs)]) == 2
    out = capsys.readouterr().out
    assert "2 of 3 recipes ok; failed: second" in out and all(f"this is {name}" in out for name in recipes.names())
    assert (tmp_path / "third").read_text().startswith(f"--scale rehearsal --seeds 1 --runs {runs} --jobs ")
    assert "this is first" in (runs / "first/reproduce.log").read_text()


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["all"], []),
        (["--arms", "all", "all"], ["--arms", "all"]),
        (["all", "--arms", "all"], ["--arms", "all"]),
        (["--arms=all", "--", "all"], ["--arms=all"]),
        (["--data", "all", "all", "--seeds", "1"], ["--data", "all", "--seeds", "1"]),
        (["--dry-run", "all", "--args", "all"], ["--dry-run", "--args", "all"]),
    ],
)
def test_the_word_that_names_the_paper_is_the_one_left_out(words, kept):
    assert reproduce.without_paper(words) == kept


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_two_side_by_side_at_most(children, tmp_path, side_by_side):
    children(seconds=0.5)
    names = ["a", "b", "c"]
    assert everything.reproduce_all(names, [], tmp_path / "runs", Console(), 4, side_by_side) == 0
    times = {name: [float((tmp_path / f"{name}.{end}").read_text()) for end in ("start", "end")] for name in names}
    together = max(sum(start <= at < end for start, end in times.values()) for at, _ in times.values())
    assert together == side_by_side
    assert (tmp_path / "a").read_text() == f"--jobs {4 // side_by_side}"


def test_ctrl_c_ends_the_recipes_too(children, tmp_path, capsys):
    children(seconds=60)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    assert everything.reproduce_all(["a", "b", "c"], [], tmp_path / "runs", Console(), 2, 2) == 130
    assert time.monotonic() - started < 20
    assert "goes on from here" in capsys.readouterr().err and not (tmp_path / "c").exists()
