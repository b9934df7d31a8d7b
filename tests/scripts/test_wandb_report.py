"""Arms compared from what W&B logged offline: read back whole, shown beside the paper's figures, without a server."""

import json
import re
import shutil
from pathlib import Path

import pytest
import wandb

from benchmarks.running import recipes
from benchmarks.running.recipes import load
from common.training.tracking import wandb_logger
from scripts import wandb_report as script
from scripts.wandb_runs import STEP, LoggedRun, offline, online, records

PAPER = "mobilesam"
FINAL = {"decoupled": [0.7, 0.8], "coupled": [0.4, 0.5]}


def log(runs: Path, arm: str, stage: str, seed: int, rows: list[dict[str, float]], patch: pytest.MonkeyPatch) -> Path:
    """Log a run offline as a stage would; returns its folder."""
    folder = runs / PAPER / "mini" / f"{stage}-{arm}" / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    patch.setenv("WANDB_MODE", "offline")
    patch.setenv("RUN_LABELS", f"{PAPER}/mini/{arm}/{stage}/seed{seed}")
    with wandb_logger(folder, {"model": {"lr": 0.1}}) as logger:
        assert logger is not None
        for row in rows:
            logger.log_metrics(row)
    return folder


def steps(first: int, last: int, scale: float) -> list[dict[str, float]]:
    return [{STEP: step, "train/loss": scale / (step + 1), "epoch": 0} for step in range(first, last)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of two arms: a training that was interrupted once, and evaluations of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        log(folder, "decoupled", "distill", 0, steps(0, 400, 1.0), patch)
        log(folder, "decoupled", "distill", 0, steps(300, 500, 2.0), patch)
        for arm, values in FINAL.items():
            for seed, value in enumerate(values):
                log(folder, arm, "evaluate", seed, [{"test/miou_teacher_point": value, STEP: 0}], patch)
    wandb.teardown()  # W&B's own process may still be writing the last run; this waits for its end
    return folder


@pytest.fixture
def comparison(runs: Path) -> script.Comparison:
    arms = load(PAPER).arms("mini")
    return script.compare(recipes.page(PAPER), arms, "mini", offline(runs / PAPER))


def test_offline_runs_are_read_back_with_what_they_belong_to(runs: Path):
    found = {(run.arm, run.stage, run.seed): run for run in offline(runs / PAPER)}
    assert len(found) == 5
    run = found["coupled", "evaluate", "seed1"]
    assert (run.paper, run.scale, run.summary) == (PAPER, "mini", {"test/miou_teacher_point": 0.5})
    assert re.fullmatch("[0-9a-f]{40}", run.commit)


def test_a_resumed_runs_attempts_make_one_curve_in_which_the_later_counts(runs: Path):
    (run,) = [run for run in offline(runs / PAPER) if run.stage == "distill"]
    expected = {step: (1.0 if step < 300 else 2.0) / (step + 1) for step in range(500)}
    assert run.curves == {"train/loss": pytest.approx(expected)}  # and "epoch" is no metric
    assert run.summary["train/loss"] == pytest.approx(2.0 / 500)


def test_a_file_that_was_cut_off_is_read_as_far_as_it_is_whole(runs: Path, tmp_path: Path):
    whole = sorted(runs.rglob("distill*/**/*.wandb"))[0]
    content = whole.read_bytes()
    assert len(content) > 65536  # so that records cross the ends of blocks
    count = len(list(records(whole)))
    cut = tmp_path / "cut.wandb"
    for size in (0, 5, 7, 100, 32768, 32770, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:size])
        assert len(list(records(cut))) < count
    cut.write_bytes(content[: len(content) // 2])
    assert len(list(records(cut))) > 0.4 * count


def test_arms_stand_side_by_side_with_the_papers_figures(comparison: script.Comparison):
    (final,) = comparison.final
    assert final.name == "test/miou_teacher_point" and [bar.arm for bar in final.bars] == ["decoupled", "coupled"]
    assert {bar.arm: sorted(bar.values) for bar in final.bars} == FINAL
    assert final.bars[0].text == "0.750 ± 0.071"
    reported = comparison.paper.reported("decoupled", "miou_teacher_point")
    assert final.bars[0].reported[-1] == max(found.high for found in reported if found.high is not None)
    shares = script.shares(final.bars)
    assert shares[0]["mean"] > shares[1]["mean"] > 0 and shares[0]["reported"] is not None
    assert [curve.name for curve in comparison.curves] == ["train/loss"]


def test_what_the_paper_reports_of_a_curves_metric_is_a_level_line(comparison: script.Comparison):
    run = LoggedRun(PAPER, "mini", "decoupled", "seed0", "distill", 0.0)
    for step in (0, 10):
        run.log({STEP: step, "val/miou_teacher_point": 0.1 * step})
    arms = load(PAPER).arms("mini")
    (curve,) = script.compare(comparison.paper, arms, "mini", [run]).curves
    assert curve.references and all(line.seeds[0][0][1] == line.seeds[0][1][1] for line in curve.references)
    assert curve.references[0].seeds[0][1][0] == 10


def test_the_page_holds_everything_and_loads_nothing(runs: Path, tmp_path: Path, capsys):
    assert script.main([PAPER, "--offline", "--runs", str(runs), "--output", str(tmp_path)]) == 0
    file = tmp_path / "mobilesam.mini.wandb.html"
    assert capsys.readouterr().out.strip() == str(file)
    page = file.read_text()
    assert "0.750 ± 0.071" in page and "paper: " in page and 'class="threshold"' in page and "train/loss" in page
    assert not re.search(r"<script|<link|<img|src=|url\(|@import", page)


def test_the_wandb_report_has_runsets_panels_and_reference_expressions(comparison: script.Comparison, monkeypatch):
    from wandb_workspaces.reports.v2 import interface

    monkeypatch.setattr(interface, "_get_api", lambda: None)  # W&B's server is asked for the project's id alone
    monkeypatch.setattr(interface, "execute_graphql", lambda *_: {"project": {"internalId": "1"}})
    report = script.wandb_report(comparison, "somebody")
    spec = json.loads(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    grids = [block for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 2
    for grid in grids:
        runsets = grid["metadata"]["runSets"]
        assert [runset["name"] for runset in runsets] == comparison.arms
        for runset in runsets:
            wanted = json.dumps(runset["filters"])
            assert '"mobilesam/mini"' in wanted and f'["{runset["name"]}"]' in wanted
    text = json.dumps(spec, ensure_ascii=False)
    value = comparison.final[0].bars[0].reported[-1]
    assert f"${{test/miou_teacher_point}} * 0 + {value:g}" in text
    assert "| decoupled | 0.750 ± 0.071 (paper:" in text and "train/loss" in text


@pytest.mark.parametrize(
    ("remote", "link"),
    [
        ("git@host.org:group/project.git", "https://host.org/group/project/commit/abc"),
        ("https://user:secret@host.org/group/project", "https://host.org/group/project/commit/abc"),
        ("ssh://git@host.org/group/project.git", "https://host.org/group/project/commit/abc"),
        ("/srv/git/project.git", None),
        ("", None),
    ],
)
def test_a_commit_is_linked_where_its_host_has_pages_and_no_password_is_shown(remote, link):
    assert script.commit_link(remote, "abc") == link


def test_online_runs_come_to_the_same_comparison(comparison: script.Comparison, runs: Path, monkeypatch):
    class Api:
        def runs(self, path: str, filters: dict) -> list:
            assert path == "somebody/distillery" and re.match(filters["group"]["$regex"], "mobilesam/mini")
            return [Run(run) for run in offline(runs / PAPER)]

    class Run:
        def __init__(self, run: LoggedRun):
            self.group, self.name, self.job_type = "mobilesam/mini", f"{run.arm}/{run.seed}", run.stage
            self.created_at, self.commit, self.metadata = "2026-01-01T00:00:00Z", run.commit, None
            self.rows = [{STEP: step, name: v} for name, curve in run.curves.items() for step, v in curve.items()]

        def scan_history(self) -> list[dict]:
            return self.rows

    monkeypatch.setattr("scripts.wandb_runs.wandb.Api", Api)
    arms = load(PAPER).arms("mini")
    again = script.compare(comparison.paper, arms, "mini", online("somebody", PAPER))
    assert script.html(again) == script.html(comparison)


def test_errors_say_what_to_do(runs: Path, tmp_path: Path, monkeypatch, capsys):
    def said(*arguments: str) -> str:
        assert script.main(list(arguments)) == 2
        return capsys.readouterr().err

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "wandb login" in said(PAPER)
    assert "make reproduce PAPER=mobilesam" in said(PAPER, "--offline", "--runs", str(tmp_path))
    assert "unknown scale 'papr'" in said(PAPER, "--offline", "--scale", "papr", "--runs", str(runs))
    assert "unknown paper" in said("mobilsam", "--offline")
    shutil.copytree(runs / PAPER, tmp_path / PAPER)
    for file in tmp_path.rglob("*.wandb"):
        file.write_bytes(b"not W&B's")
    assert "W&B has no runs" in said(PAPER, "--offline", "--runs", str(tmp_path))
