"""Results files: nothing stale stays in them, nothing valid is lost, and they say nothing of this machine's folders."""

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running import recipes, results
from benchmarks.running.recipes import Job
from common.errors import UserError
from common.recipe import Arm
from tests.benchmarks.demo import arms, finish, ran, request

ARMS: dict[str, Arm] = arms("mini")


def jobs(root: Path, **settings: Any) -> dict[str, dict[int, list[Job]]]:
    recipes._imports.cache_clear()
    return recipes.jobs(request(root, **settings))


def run(root: Path, *only: str, seeds: int = 3, accuracy: float = 0.5) -> None:
    """Leave what the stages of some arms leave; seed k of an arm has `accuracy` + k."""
    for arm, chains in jobs(root, seeds=seeds).items():
        if arm in only:
            for seed, chain in chains.items():
                for job in chain:
                    if job.done is None:
                        finish(job, **({"accuracy": accuracy + seed} if job.stage.run == "test" else {}))


def collect(root: Path, **settings: Any) -> dict[str, Any]:
    """Collect and write, as `make reproduce` does."""
    wanted = request(root, **settings)
    found = results.collect(wanted, ARMS, jobs(root, **settings))
    results.write(results.path(wanted), found)
    return found


def clean(root: Path) -> None:
    """The stages' run folders are gone; what was measured in them stays."""
    for folder in [*root.glob("runs/demo/*/*-*/"), *root.glob("runs/foundations/mini")]:
        shutil.rmtree(folder)


def edit(root: Path, file: str = "projects/demo/evaluate.py") -> None:
    with open(root / file, "a") as handle:
        handle.write("\n# another version\n")


def accuracies(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {arm: {s: m["accuracy"] for s, m in entry["seeds"].items()} for arm, entry in found["arms"].items()}


def test_only_arms_and_seeds_that_have_finished_are_reported(project: Path) -> None:
    run(project, "untrained")
    run(project, "plain", seeds=2)
    found = collect(project)
    assert accuracies(found) == {"plain": {"0": 0.5, "1": 1.5}, "untrained": {"0": 0.5, "1": 1.5, "2": 2.5}}
    assert json.loads((project / "runs/demo/mini/results.json").read_text()) == found


def test_an_arm_whose_last_stage_alone_has_finished_is_not_reported(project: Path) -> None:
    run(project, "plain", seeds=1)
    (jobs(project)["plain"][0][1].run_dir / "done.json").unlink()
    assert collect(project)["arms"] == {}


def test_figures_that_would_be_measured_again_survive_the_run_folders(project: Path) -> None:
    run(project, "method", "plain")
    first = collect(project)
    clean(project)
    run(project, "plain", seeds=1, accuracy=0.7)
    found = collect(project, seeds=1)
    assert accuracies(found) == {"method": {"0": 0.5, "1": 1.5, "2": 2.5}, "plain": {"0": 0.7, "1": 1.5, "2": 2.5}}
    assert found["arms"]["method"] == first["arms"]["method"]  # the time that its stages took as well
    assert found["command"] == "make reproduce PAPER=demo SEEDS=1" and found["plan"] == [0]


def test_without_any_run_folder_the_file_stays_as_it_is(project: Path) -> None:
    run(project, "method")
    first = collect(project)
    clean(project)
    file = project / "runs/demo/mini/results.json"
    before = file.read_bytes()
    assert {**collect(project), "created": ""} == {**first, "created": ""}
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("projects/demo/evaluate.py", {"method", "plain", "untrained"}),
        ("projects/demo/train.py", {"method", "plain"}),
        ("common/foundations/teacher.py", {"method", "plain"}),
        ("projects/demo/plot.py", set()),
    ],
)
def test_stale_figures_are_dropped(project: Path, file: str, stale: set[str]) -> None:
    run(project, *ARMS)
    collect(project)
    edit(project, file)
    assert set(collect(project)["arms"]) == set(ARMS) - stale


def test_figures_of_another_version_are_replaced_not_mixed(project: Path) -> None:
    run(project, "plain")
    collect(project)
    edit(project)
    run(project, "plain", seeds=1, accuracy=0.9)
    assert accuracies(collect(project)) == {"plain": {"0": 0.9}}


def test_a_stage_whose_output_nothing_reads_counts_too(project: Path) -> None:
    """An arm's cost rests on all its stages, not only on those that the last one depends on."""
    chains = jobs(project)
    last = chains["untrained"][0][-1]
    pair = {"untrained": {0: [chains["plain"][0][1], last]}}
    for job in pair["untrained"][0]:
        finish(job, accuracy=0.5)
    only = {"untrained": ARMS["untrained"]}
    results.write(results.path(request(project)), results.collect(request(project), only, pair))
    edit(project, "projects/demo/train.py")
    later = {"untrained": {0: [jobs(project)["plain"][0][1], last]}}
    assert results.collect(request(project), only, later)["arms"] == {}


def test_an_arm_that_the_recipe_no_longer_has_is_dropped(project: Path) -> None:
    run(project, *ARMS)
    collect(project)
    kept = {name: arm for name, arm in ARMS.items() if name != "plain"}
    found = results.collect(request(project), kept, jobs(project))
    assert set(found["arms"]) == set(kept)


def test_cost_is_that_of_the_arms_own_training(project: Path) -> None:
    run(project, *ARMS, seeds=1)
    seeds = {arm: entry["seeds"]["0"] for arm, entry in collect(project)["arms"].items()}
    cost = {"train_seconds": 2.0, "train_tflops": 3.0, "fit_tflops": 3.0}  # neither teacher nor test
    assert seeds["method"] == {"accuracy": 0.5, **cost}
    assert seeds["untrained"] == {"accuracy": 0.5}


def test_times_versions_and_hardware(project: Path) -> None:
    run(project, *ARMS, seeds=1)
    found = collect(project)
    assert found["stage_seconds"] == 6 * 4.0  # the teacher, two trainings and three evaluations, each once
    assert found["versions"] == {"torch": "2"} and found["hardware"] == {"cores": 2}
    assert [stage["seconds"] for stage in found["arms"]["method"]["stages"]] == [4.0, 4.0, 4.0]


def test_a_results_file_names_no_folder_of_this_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(project / "data"))
    wanted = request(project, data="photos", args=("--model.file", "/home/me/x.pt"))
    expanded = recipes.jobs(wanted, {"DATA_ROOT": str(project / "data")})
    for job in recipes.unique(expanded):
        finish(job, accuracy=0.5)
    file = results.write(results.path(wanted), results.collect(wanted, ARMS, expanded))
    text = file.read_text()
    assert file == project / "runs/demo/mini-photos/results.json" and str(project) not in text and "/home" not in text
    found = json.loads(text)
    assert found["command"] == 'make reproduce PAPER=demo DATA=photos DATA_ROOT=<folder> ARGS="--model.file <folder>"'
    assert all("DATA_ROOT=<folder>" in s["command"] for arm in found["arms"].values() for s in arm["stages"])


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({}, "make reproduce PAPER=demo"),
        ({"seeds": 1}, "make reproduce PAPER=demo SEEDS=1"),
        ({"auto": True}, "make reproduce PAPER=demo SEEDS=auto"),
        ({"seeds": 5, "first_seed": 100}, "make reproduce PAPER=demo SEEDS=100-104"),
        ({"scale": "paper", "seeds": 5}, "make reproduce PAPER=demo SCALE=paper SEEDS=5"),
        ({"scale": "rehearsal", "seeds": 1}, "make reproduce PAPER=demo SCALE=rehearsal"),
        ({"args": ("--a", "b c")}, "make reproduce PAPER=demo ARGS=\"--a 'b c'\""),
    ],
)
def test_the_make_line_measures_the_same(project: Path, settings: dict[str, Any], command: str) -> None:
    assert results.make_command(request(project, **settings)) == command


def test_a_figure_that_is_not_finite_is_kept_and_does_not_renew_the_file(project: Path) -> None:
    run(project, "untrained", seeds=1, accuracy=math.nan)
    found = collect(project)
    assert math.isnan(found["arms"]["untrained"]["seeds"]["0"]["accuracy"])
    before = (project / "runs/demo/mini/results.json").read_bytes()
    results.write(results.path(request(project)), {**found, "created": "later"})
    assert (project / "runs/demo/mini/results.json").read_bytes() == before
    results.write(results.path(request(project)), {**found, "created": "later", "stage_seconds": 1.0})
    assert (project / "runs/demo/mini/results.json").read_bytes() != before


@pytest.mark.parametrize(
    ("change", "content", "said"),
    [
        ({}, "{", "Invalid JSON"),
        ({}, "[" * 100_000, "recursion limit"),
        ({}, "[]", "should be an object"),
        ({}, "", "Invalid JSON"),
        ({"arms": []}, "", "arms"),
        ({"paper": 3}, "", "paper: Input should be a valid string, here 3"),
        ({"scale": "large"}, "", "scale"),
        ({"created": None}, "", "created"),
        ({"stage_seconds": -1}, "", "stage_seconds"),
        ({"stage_seconds": math.nan}, "", "stage_seconds"),
        ({"hardware": {"cpu": []}}, "", "hardware"),
        ({"plan": [-1]}, "", "plan"),
        ({"verdicts": {}}, "", "verdicts"),
        ({"verdicts": [{"claim": "C1", "status": "confirmed", "reason": "so"}]}, "", "verdicts[0].estimate"),
        ({"paper": "other"}, "", "holds results of other at mini"),
        ({"paper": "../../x"}, "", "paper"),
        ({"arms": {"a": 3}}, "", "arms.a"),
        ({"arms": {"a": {"seeds": {}}}}, "", "arms.a.method"),
        ({"seeds": {"x": {}}}, "", "arms.plain.seeds.x"),
        ({"seeds": {"0": {"m": "high"}}}, "", "arms.plain.seeds.0.m"),
        ({"seeds": {"0": {"m": True}}}, "", "arms.plain.seeds.0.m"),
        ({"seeds": {"0": {"m": 1e300}}}, "", "at most 1e+100"),
        ({"seeds": {"0": {"\x1b[2J": 1.0}}}, "", "arms.plain.seeds.0"),
        ({"stages": [3]}, "", "arms.plain.stages[0]"),
        ({"stages": [{"stage": "../x", "module": "m", "fingerprint": "f"}]}, "", "arms.plain.stages[0].stage"),
        ({"stages": [{"stage": "x", "module": "m", "fingerprint": "f"}]}, "", "arms.plain.stages[0].command"),
    ],
)
def test_a_broken_results_file_is_named(project: Path, change: dict[str, Any], content: str, said: str) -> None:
    run(project, "plain", seeds=1)
    whole = collect(project, seeds=1)
    arm = {key: change[key] for key in change if key in ("seeds", "stages")}
    made = {**whole, "arms": {"plain": {**whole["arms"]["plain"], **arm}}} if arm else {**whole, **change}
    content = content if not change else json.dumps(made)
    other = change.get("paper") == "other"  # whole, and in another's place
    for file, remedy in (
        (results.path(request(project)), "make reproduce writes it again"),
        (results.reference("demo", "mini"), "git checkout"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(whole))
        assert results.read(file) == whole
        file.write_text(content)
        with pytest.raises(UserError) as error:
            results.read(file)
        assert str(file) in str(error.value) and said in str(error.value)
        assert ("move it where they belong" if other else remedy) in str(error.value)
        assert file.read_text() == content


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "dangling"])
def test_what_is_no_file_is_named_too(project: Path, kind: str) -> None:
    file = results.path(request(project))
    file.parent.mkdir(parents=True)
    match kind:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "loop":
            file.symlink_to(file)
        case "dangling":
            file.symlink_to(file.parent / "nothing")
    with pytest.raises(UserError, match=re.escape(str(file))):
        results.read(file)


def test_figures_too_large_to_reckon_with_are_infinite(project: Path) -> None:
    run(project, "plain", seeds=2, accuracy=-1e200)
    found = collect(project, seeds=2)
    assert accuracies(found) == {"plain": {"0": -math.inf, "1": -math.inf}}
    assert results.judged(found, recipes.page("demo"))["verdicts"]


def test_verdicts_of_other_claims_are_not_believed(project: Path) -> None:
    run(project, "method", "plain", accuracy=0.5)
    found = results.judged(collect(project), recipes.page("demo"))
    for verdicts in ([], [{**found["verdicts"][0], "claim": "C9"}]):
        assert results.judged({**found, "verdicts": verdicts}, recipes.page("demo")) == found


def test_a_broken_file_of_ones_own_is_made_again_from_the_run_folders(project: Path) -> None:
    run(project, "plain")
    file = results.path(request(project))
    file.write_text("{")
    assert accuracies(collect(project)) == {"plain": {"0": 0.5, "1": 1.5, "2": 2.5}}
    assert results.read(file) is not None


def test_verdicts_follow_the_page_without_any_run(project: Path) -> None:
    run(project, "method", "plain", accuracy=0.5)
    first = results.judged(collect(project), recipes.page("demo"))
    assert results.judged(first, recipes.page("demo")) is first  # nothing has changed, nothing is judged
    file = project / "papers/demo.yaml"
    file.write_text(file.read_text().replace("    worse: {arm: plain", "    margin: 0.5\n    worse: {arm: plain"))
    again = results.judged(first, recipes.page("demo"))
    assert again["judged_by"] != first["judged_by"] and again["arms"] == first["arms"]
    assert again["verdicts"] != first["verdicts"] and ran(project) == 0


def test_a_fixed_number_of_seeds_is_judged_by_these_seeds_alone(project: Path) -> None:
    run(project, "method", accuracy=0.9, seeds=5)
    run(project, "plain", accuracy=0.5, seeds=5)
    collect(project, seeds=5)
    paper = recipes.page("demo")
    assert results.judged(collect(project, seeds=3), paper)["verdicts"][0]["seeds"] == 3
    assert results.judged(collect(project, seeds=5), paper)["verdicts"][0]["seeds"] == 5


def write_curves(folder: Path, attempt: int, rows: str) -> None:
    file = folder / "curves" / f"version_{attempt}" / "metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text(rows)


def test_curves_of_a_resumed_run_go_on_where_it_went_on(tmp_path: Path) -> None:
    write_curves(tmp_path, 0, "epoch,step,train/loss,val/error\n0,1,1.0,\n0,2,0.9,\n0,2,,0.5\n0,3,9.9,\n")
    write_curves(tmp_path, 10, "epoch,step,train/loss,val/error\n0,5,0.4,\n1,5,,0.3\n")
    write_curves(tmp_path, 2, "epoch,step,train/loss\n0,3,0.8\n0,5,9.9\n")
    assert results.curves(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 0.9), (3, 0.8), (5, 0.4)],
        "val/error": [(2, 0.5), (5, 0.3)],
    }


def test_curves_of_nothing(tmp_path: Path) -> None:
    assert results.curves(tmp_path) == {}
    write_curves(tmp_path, 0, "epoch,step,loss\n0,1,1.0\n,,\n")
    assert results.curves(tmp_path) == {}  # a single point is no curve
