"""What a request comes to: which stages, under which fingerprints, with which commands."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reproduce
from benchmarks.running import recipes
from benchmarks.running.recipes import Job, portable
from common.errors import UserError
from common.recipe import Arm, Recipe, Stage
from tests.benchmarks.demo import RECIPE, request


def fingerprints(root: Path, **settings: Any) -> dict[str, str]:
    """Fingerprint of each distinct stage, by its name (and kind)."""
    recipes._imports.cache_clear()
    jobs = recipes.unique(recipes.jobs(request(root, **settings)))
    return {key(job.stage): job.fingerprint for job in jobs}


def key(stage: Stage) -> str:
    if stage.name == "evaluate":
        return f"evaluate {key(stage.upstream()[0]).split()[1]}" if stage.upstream() else "evaluate untrained"
    return f"{stage.name} {stage.overrides.get('model.kind', '')}".strip()


ALL = {"teacher", "train method", "train plain", "evaluate method", "evaluate plain", "evaluate untrained"}
TRAINED = ALL - {"teacher", "evaluate untrained"}
EVALUATIONS = {"evaluate method", "evaluate plain", "evaluate untrained"}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys() == ALL
    return {name for name in ALL if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("projects/demo/configs/mini/train.yaml", "data: {class_path: common.data.numbers.Numbers, size: 1}", TRAINED),
        ("projects/demo/configs/mini/evaluate.yaml", "data: {size: 1}", EVALUATIONS),
        (
            "common/foundations/configs/mini/teacher.yaml",
            "lr: 1",
            ALL - {"evaluate untrained"},
        ),  # upstream of all these
        ("common/foundations/teacher.py", "x = 1", ALL - {"evaluate untrained"}),
        ("projects/demo/train.py", "from projects.demo import model", TRAINED),
        ("projects/demo/model.py", "x = 1", TRAINED),  # imported by the training script
        ("projects/demo/stage.py", "x = 1", ALL),  # by all of them, by evaluate.py with a relative import
        ("projects/demo/__init__.py", "x = 1", ALL),  # runs when a module of the package is imported
        ("common/data/numbers.py", "x = 1", TRAINED),  # named by the config
        ("common/data/words.py", "x = 1", TRAINED),  # imported inside a function of what the config names
        ("projects/demo/plot.py", "x = 1", set()),
        ("common/data/other.py", "x = 1", set()),
        ("projects/demo/README.md", "text", set()),
        ("projects/demo/configs/paper/train.yaml", "model: {size: 1}", set()),
        ("projects/demo/configs/mini/photos/train.yaml", "data: {size: 1}", set()),
        ("projects/demo/configs/mini/evaluate.yaml", "{}  # a comment", set()),
    ],
)
def test_a_stage_is_out_of_date_when_what_it_follows_from_has_changed(
    project: Path, file: str, content: str, expected: set[str]
) -> None:
    before = fingerprints(project)
    (project / file).write_text(content)
    assert changed(before, fingerprints(project)) == expected


def test_an_unchanged_project_has_the_same_fingerprints_in_any_process(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.running import recipes\n"
        "from tests.benchmarks import demo\n"
        "recipes.ROOT = Path(sys.argv[1]); recipes.load = lambda _: demo.RECIPE\n"
        "print(*(job.fingerprint for job in recipes.unique(recipes.jobs(demo.request(recipes.ROOT)))))"
    )
    root = Path(__file__).resolve().parents[2]
    shown = [
        subprocess.run(
            [sys.executable, "-c", code, str(project)],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert shown[0] == shown[1] and set(shown[0].split()) == set(fingerprints(project).values())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"seeds": 5}, set()),
        ({"runs": Path("elsewhere")}, set()),
        ({"scale": "paper"}, ALL),
        ({"devices": "2"}, ALL),
        ({"nodes": 2}, ALL),
        ({"args": ("--trainer.max_steps", "3")}, ALL),
    ],
)
def test_scale_devices_and_arguments_count_and_seeds_and_folders_do_not(
    project: Path, settings: dict[str, Any], expected: set[str]
) -> None:
    assert changed(fingerprints(project), fingerprints(project, **settings)) == expected


def test_arms_that_are_left_out_do_not_count(project: Path) -> None:
    whole = fingerprints(project)
    assert fingerprints(project, arms=("plain",)).items() <= whole.items()


def test_code_that_an_argument_names_counts(project: Path) -> None:
    given = {"args": ("--data.class_path=common.data.other.Other",)}
    before = fingerprints(project, **given)
    (project / "common/data/other.py").write_text("x = 1")
    assert changed(before, fingerprints(project, **given)) == ALL


def test_other_data_are_other_results(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(project / "data"))
    (project / "data/photos").mkdir(parents=True)
    (project / "data/photos/1.jpg").write_text("1")
    before = fingerprints(project, data="photos")
    assert changed(fingerprints(project), before) == ALL - {"teacher"}
    (project / "data/photos/.index.npz").write_text("what a reader keeps")
    monkeypatch.setenv("DATA_ROOT", str(project / "moved"))
    (project / "data").rename(project / "moved")
    (project / "moved/photos/.index.npz").rename(project / "moved/photos/tar.index.npz")
    assert changed(before, fingerprints(project, data="photos")) == set()
    (project / "moved/photos/1.jpg").write_text("12")
    assert changed(before, fingerprints(project, data="photos")) == ALL - {"teacher"}


def test_other_data_may_have_other_arms() -> None:
    few = {"plain": Arm([Stage("train", "projects.demo.train")], "alone")}
    recipe = replace(RECIPE, arms_with=lambda data: few if data == "photos" else {})
    assert recipe.arms_for("mini", "photos") is few
    assert list(recipe.arms_for("mini")) == list(recipe.arms("mini")) == list(RECIPE.arms_for("mini", "photos"))


def test_a_foundation_that_learns_from_the_users_data_is_another_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_ROOT", str(project / "data"))
    (project / "data/photos").mkdir(parents=True)
    (project / "common/foundations/configs/mini/photos").mkdir()
    (project / "common/foundations/configs/mini/photos/teacher.yaml").write_text("root: $DATA_ROOT/photos\n")
    before = fingerprints(project, data="photos")
    (project / "data/photos/1.jpg").write_text("1")
    assert changed(before, fingerprints(project, data="photos")) == ALL


def test_each_distinct_stage_is_one_job_however_many_arms_and_seeds_share_it(project: Path) -> None:
    jobs = recipes.unique(recipes.jobs(request(project, seeds=3)))
    assert len(jobs) == 1 + 2 * 3 + 3 * 3 == len({job.run_dir for job in jobs})
    teacher = next(job for job in jobs if job.stage.name == "teacher")
    assert teacher.foundation and teacher.arms == ["method", "plain"]
    assert teacher.run_dir == project / "runs/foundations/mini" / f"teacher-{teacher.fingerprint}" / "seed0"
    for number, job in enumerate(jobs):
        assert all(before in jobs[:number] for before in job.upstream)
        assert all(before.seed in (job.seed, 0) for before in job.upstream)
    assert [job.seed for job in jobs if not job.foundation] == sorted(job.seed for job in jobs if not job.foundation)


def job(project: Path, kind: str, seed: int = 0, **settings: Any) -> Job:
    chain = recipes.jobs(request(project, seeds=3, **settings), {"DATA_ROOT": f"{project}/my data"})[kind][seed]
    return chain[-2]


def test_a_command_can_be_pasted(project: Path) -> None:
    made = job(project, "plain", 2, args=("--model.note", "a 'b' $c"))
    words = shlex.split(made.command())
    assert words[:3] == [f"DATA_ROOT={project}/my data", "python", "-m"] and words[3:] == made.argv
    config = "projects/demo/configs/mini/train.yaml"
    assert made.argv[:6] == ["projects.demo.train", "fit", "--config", config, "--seed_everything", "2"]
    given = dict(zip(made.argv[2::2], made.argv[3::2], strict=True))
    assert given["--model.kind"] == "plain" and given["--model.note"] == "a 'b' $c"
    assert given["--model.teacher"] == str(made.upstream[0].run_dir / "weights.safetensors")
    assert given["--run_dir"] == str(made.run_dir) and (project / config).exists()


def test_the_commands_of_a_dry_run_do_what_the_harness_does(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["demo", "--dry-run", "--seeds", "1", "--arms", "plain"]) == 0
    commands = capsys.readouterr().out
    assert [line.split()[2] for line in commands.splitlines()] == [
        "common.foundations.teacher",
        "projects.demo.train",
        "projects.demo.evaluate",
    ]
    assert not (project / "runs").exists()  # a dry run leaves nothing
    folders = [line.split()[-1] for line in commands.splitlines()]
    script = f'set -e\npython() {{ {shlex.quote(sys.executable)} "$@"; }}\nmkdir -p {" ".join(folders)}\n{commands}'
    subprocess.run(["sh", "-c", script], cwd=project, check=True)
    jobs = recipes.unique(recipes.jobs(replace(request(project), seeds=1, arms=("plain",), runs=Path("runs"))))
    assert len(jobs) == 3 and all(job.done for job in jobs)  # the harness takes them for done


def test_a_portable_command_names_no_folder_of_this_machine(project: Path) -> None:
    given = ("--model.file=/home/me/x.pt", "--model.other", "/tmp/y z", "--model.text", "a b")
    shown = job(project, "plain", args=given).portable_command()
    assert str(project) not in shown and "/home" not in shown and "/tmp" not in shown
    assert shown.startswith("DATA_ROOT=<folder> python -m projects.demo.train fit --config projects/demo/configs/mini")
    assert "--model.file=<folder> --model.other <folder> --model.text 'a b'" in shown
    assert " --model.teacher runs/foundations/mini/teacher-" in shown and " --run_dir runs/demo/mini/train-" in shown


@pytest.mark.parametrize(
    ("word", "runs", "shown"),
    [
        ("runs/a b/seed0", "runs", "'runs/a b/seed0'"),
        ("/data/runs/a/seed0", "/data/runs", "runs/a/seed0"),
        ("../my-runs/a", "../my-runs", "runs/a"),
        ("/data/runs2/a", "/data/runs", "<folder>"),
        ("HF_HUB_OFFLINE=1", "runs", "HF_HUB_OFFLINE=1"),
        ("", "runs", "''"),
    ],
)
def test_portable_words(word: str, runs: str, shown: str) -> None:
    assert portable(word, runs) == shown


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"paper": "llmlinga"}, "unknown paper 'llmlinga': did you mean llmlingua2?"),
        ({"paper": "mobilesam", "scale": "papre"}, "unknown scale 'papre': did you mean paper?"),
        ({"paper": "mobilesam", "arms": ("teacher", "decopled")}, "unknown arm 'decopled': did you mean decoupled"),
        ({"paper": "mobilesam", "data": "cocoo"}, "unknown data set 'cocoo': did you mean coco?"),
        ({"paper": "mobilesam", "data": "x"}, "unknown data set 'x': known: coco."),
        ({"paper": "mobilesam", "data": "coco", "scale": "paper"}, "DATA=coco goes with SCALE=mini"),
        ({"paper": "mobilesam", "seeds": 0}, "SEEDS=0: at least one seed is needed"),
        ({"paper": "mobilesam", "seeds": 10**8}, "SEEDS=100000000: 1000 seeds of an arm at most"),
    ],
)
def test_names_that_do_not_exist_are_answered_with_the_nearest(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        recipes.check(recipes.Request(**settings))
    assert said in str(error.value)


def test_the_command_line_ends_with_two_for_a_name_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["llmlinga"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: unknown paper 'llmlinga': did you mean llmlingua2?\n" and shown.out == ""


def test_stages_that_are_equal_are_one_job(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Stage("train", "projects.demo.train", {"model.kind": "plain"}) for _ in range(2))
    read = {"model.weights": one.weights, "model.reference": other.weights}
    arm = Arm([Stage("evaluate", "projects.demo.evaluate", read, run="test")], "a model beside itself")
    monkeypatch.setattr(recipes, "load", lambda _: Recipe("", "", lambda _: {"plain": arm}))
    train, evaluate = recipes.jobs(request(project))["plain"][0]
    assert (train.stage.name, evaluate.upstream) == ("train", [train])
    weights = str(train.run_dir / "weights.safetensors")
    assert [evaluate.argv[evaluate.argv.index(f"--{key}") + 1] for key in read] == [weights, weights]


def test_a_stage_without_a_config_is_named(project: Path) -> None:
    (project / "projects/demo/configs/mini/train.yaml").unlink()
    with pytest.raises(UserError, match="stage train of demo has no config projects/demo/configs/mini/train.yaml"):
        recipes.jobs(request(project))


def test_a_broken_recipe_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> None:
        raise ImportError("no module named torchh")

    monkeypatch.setattr(recipes, "load", load)
    with pytest.raises(UserError, match="projects/x/recipe.py: ImportError: no module named torchh"):
        recipes.arm_names("x")


def test_every_recipe_expands_at_every_scale_without_a_model_library() -> None:
    code = (
        "import sys; from benchmarks.running import recipes; from benchmarks import reproduce, catalogue\n"
        "from benchmarks.running.recipes import Request\n"
        "for name in recipes.names():\n"
        "    recipe = recipes.load(name)\n"
        "    for scale in ('mini', 'paper', *(['rehearsal'] if recipe.stand_ins else [])):\n"
        "        recipe.arms(scale)\n"
        "print(sorted({'torch', 'lightning', 'transformers', 'scipy', 'wandb'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout == "[]\n", shown.stderr


def test_a_claim_about_one_run_of_all_seeds_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("evaluate", "projects.demo.evaluate", run="test", shared=True)
    once = Recipe("A demonstration", "numbers", lambda _: dict.fromkeys(("method", "plain"), Arm([stage], "one run")))
    monkeypatch.setattr(recipes, "load", lambda paper: once)
    with pytest.raises(UserError, match=r"demo.yaml: claim C1 is tested on accuracy of method, which is one run that"):
        recipes.page("demo")
