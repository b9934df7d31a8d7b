"""What holds for the tests themselves: they leave checkout and home alone, and their time is counted by recipe."""

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.running import certificates, results
from benchmarks.running.recipes import ROOT
from common.paths import runs_folder
from tests import budget, untouched
from tests.repository import commit_all


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a committed result and a page, which has been changed since; and a home beside it."""
    root = tmp_path / "checkout"
    (root / "benchmarks/results").mkdir(parents=True)
    (root / "benchmarks/results/a.json").write_text("1")
    (root / "page.md").write_text("as committed")
    (root / ".gitignore").write_text("reports/\n")
    (tmp_path / "home/.cache").mkdir(parents=True)
    commit_all(root)
    (root / "page.md").write_text("in work")
    (root / "notes.txt").write_text("the user's own")
    return root


def touched(checkout: Path, act: Callable[[], object]) -> list[str]:
    """What the guard says of a test that does this."""
    before = untouched.listing(checkout, checkout.parent / "home")
    act()
    return untouched.changes(before, untouched.listing(checkout, checkout.parent / "home"))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("checkout/new.txt", "appeared"),
        ("checkout/benchmarks/results/a.json", "changed"),
        ("checkout/page.md", "changed"),
        ("checkout/reports/index.html", "appeared"),
        ("home/.cache/library", "appeared"),
        ("home/notes.txt", "appeared"),
    ],
)
def test_what_a_test_touches_is_noticed(file, said, checkout, tmp_path):
    assert touched(checkout, lambda: None) == []
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    assert f"{tmp_path / file} {said}" in touched(checkout, lambda: (tmp_path / file).write_text("written by a test"))


def test_a_file_that_was_emptied_for_a_moment_or_removed_is_noticed(checkout):
    page = checkout / "page.md"
    times = page.stat().st_atime_ns, page.stat().st_mtime_ns

    def and_back() -> None:
        page.write_text("")
        page.write_text("in work")
        os.utime(page, ns=times)

    assert touched(checkout, and_back) == [f"{page} changed"]
    assert touched(checkout, page.unlink) == [f"{page} disappeared"]


def test_every_root_is_the_tests_own():
    roots = [runs_folder(), results.REPORTS, report.REPORTS, results.RESULTS, certificates.FOLDER, Path.home()]
    roots += [Path(os.environ[name]) for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "WANDB_DIR", "NETRC")]
    home = pwd.getpwuid(os.getuid()).pw_dir  # whatever HOME says
    assert not any(root.is_relative_to(ROOT) or root.is_relative_to(home) for root in roots)
    assert list(results.RESULTS.glob("*.json"))  # a copy of the committed ones


def test_a_recipe_over_its_budget_is_named():
    papers = ["sit", "sit_v2"]
    took = [
        ("tests/projects/test_sit_model.py::test_a", 12.0),
        ("tests/projects/test_sit_v2_model.py::test_a", 31.0),
        ("tests/projects/test_sit_v2_rehearsal.py::test_every_stage_runs", 61.0),
        ("tests/projects/test_sit_rehearsal.py::test_every_stage_runs", 0.1),  # skipped: its certificate counts
        ("tests/common/test_x.py::test_a", 100.0),
    ]
    lines, over = budget.table(took, papers, lambda paper: {"cpu_seconds": 40.0})
    assert [line.split()[:3] for line in lines[1:3]] == [["sit", "12", "40"], ["sit_v2", "31", "61"]]
    assert [line.split(":")[0] for line in over] == ["sit_v2", "sit_v2"]
    _, over = budget.table([("tests/common/test_x.py::test_a", 3000.0)], papers, lambda paper: None)
    assert over == ["a house of 46: 26 minutes on two cores, 20 are allowed"]


def test_processor_seconds_count_processes_that_have_ended():
    before = budget.processor_seconds()
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"], check=True)
    assert budget.processor_seconds() > before + 0.02
