"""Commands that write the same file at the same moment: nothing that one of them has written is lost."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, speed
from benchmarks.running import certificates, recipes, results
from scripts import accept, readme_tables
from tests.benchmarks.demo import arms, finish, request

fork = multiprocessing.get_context("fork")


def at_once(functions: list[Callable[[], Any]]) -> None:
    """Run each in a process of its own; all begin when all are there."""
    barrier = fork.Barrier(len(functions))

    def begin(function: Callable[[], Any]) -> None:
        barrier.wait()
        function()

    processes = [fork.Process(target=begin, args=(function,)) for function in functions]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(functions)


def measured(project: Path, folder: str) -> tuple[dict[str, Any], Path]:
    """Results of one arm at another scale each time, in a folder of runs of their own."""
    scale, runs = folder.split("/")
    wanted = request(project, scale=scale, runs=project / runs, seeds=1)
    expanded = recipes.jobs(wanted)
    for job in recipes.unique(expanded):
        finish(job, accuracy=0.5)
    found = results.collect(wanted, arms(scale), expanded)
    return results.judged(found, recipes.page("demo")), results.write(results.path(wanted), found).parents[2]


def test_reports_of_two_runs_folders_are_both_in_the_index(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = recipes.page("demo")
    made = [measured(project, folder) for folder in ("mini/runs", "paper/runs", "mini/others", "paper/others")]
    at_once([lambda one=one: report.make_report(one[0], paper, one[1]) for one in made])
    pages = sorted(file.name for file in results.REPORTS.glob("*.html"))
    assert pages == ["demo.mini.html", "demo.paper.html", "index.html"]
    index = (results.REPORTS / "index.html").read_text()
    assert "demo.mini.html" in index and "demo.paper.html" in index
    assert "demo.paper.html" in (results.REPORTS / "demo.mini.html").read_text()
    assert "demo.mini.html" in (results.REPORTS / "demo.paper.html").read_text()


def test_two_runs_folders_do_not_share_results(project: Path) -> None:
    at_once([lambda runs=runs: measured(project, f"mini/{runs}") for runs in ("a", "b", "c", "d")])
    for runs in ("a", "b", "c", "d"):
        found = results.read(project / runs / "demo" / "mini" / "results.json")
        assert found is not None and len(found["arms"]) == 3


def test_networks_that_are_measured_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path))
    names = [f"net {number}" for number in range(6)]
    eager = {"median_ms": 1.0, "p95_ms": 2.0, "calls": 3, "peak_bytes": 10}
    entry = {"flops": 1, "against": "net 0", "reported": {}, "source": "", "params": 3, "variants": {"eager": eager}}
    writers: list[Callable[[], Any]] = [
        lambda name=name: speed.write_network("paper", name, entry, names)  # type: ignore[misc]
        for name in names
    ]
    at_once([*writers, lambda: speed.write("paper", {"sources": {}}), lambda: speed.write("paper", {"start": {}})])
    content = json.loads(speed.file_of("paper").read_text())
    assert sorted(content["networks"]["found"]) == names and {"sources", "start"} <= content.keys()
    assert all("ratios" in one for one in content["networks"]["found"].values())


def test_references_that_are_accepted_at_once_are_all_in_the_readme(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "uncommitted", lambda paper: [])
    monkeypatch.setattr(accept, "ROOT", project)
    for name in ("README", "SMALL"):
        monkeypatch.setattr(readme_tables, name, project / f"{name}.md")
        getattr(readme_tables, name).write_text(readme_tables.BEGIN + readme_tables.END)
    (project / "projects/demo/README.md").write_text("A demonstration.\n")
    for scale in ("mini", "paper"):
        wanted = request(project, scale=scale, seeds=3)
        expanded = recipes.jobs(wanted)
        for job in recipes.unique(expanded):
            finish(job, accuracy=0.5 + 0.1 * ("method" in job.arms) + 0.001 * job.seed)
        found = results.judged(results.collect(wanted, arms(scale), expanded), recipes.page("demo"))
        results.write(results.path(wanted), found)
    speeds = project / "runs/demo/speed/cpu.json"
    speeds.parent.mkdir(parents=True)
    speeds.write_text(json.dumps({"paper": "demo", "sources": {"found": {}}}))
    words = [["--scale", "mini"], ["--scale", "paper"], ["--speed"]] * 2

    def accepted(given: list[str]) -> None:
        assert accept.main(["demo", "--runs", str(project / "runs"), *given]) == 0

    at_once([lambda given=given: accepted(given) for given in words])
    for name in ("demo.mini.json", "demo.paper.json"):
        assert (found := results.read(results.RESULTS / name)) is not None and len(found["arms"]) == 3
    assert results.read_speed(results.RESULTS / "speed/demo.cpu.json") is not None
    readme = readme_tables.README.read_text()
    assert "mini: " in readme and "paper: " in readme and readme.count("[demo]") == 1


def test_certificates_that_are_written_at_once_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "benchmarks/rehearsals"
    folder.mkdir(parents=True)
    monkeypatch.setattr(certificates, "FOLDER", folder)
    monkeypatch.setattr(certificates, "present", lambda paper: {"train": "1"})

    def certified(paper: str, seconds: float) -> None:
        coverage = {"train": {"cpu_seconds": seconds, "models": [str(seconds)]}}
        assert certificates.write(paper, coverage, {"train": "1"}, 1.0).startswith("certificate")

    papers = ["one", "other"]
    at_once([lambda paper=p, k=k: certified(paper, float(k)) for p in papers for k in range(4)])
    for paper in papers:
        kept = json.loads((folder / f"{paper}.json").read_text())
        assert kept["paper"] == paper and kept["stages"]["train"]["models"] == [str(kept["cpu_seconds"] - 1)]
    assert sorted(file.name for file in folder.glob("*.json")) == ["one.json", "other.json"]
