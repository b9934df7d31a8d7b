"""Rehearsals: what they notice, what they run, that they keep to their stand-ins, and what their certificates say."""

import hashlib
import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import reproduce
from benchmarks.running import certificates, preflight, recipes, rehearsal, stand_ins
from benchmarks.running.recipes import Job, Request
from common.errors import UserError
from common.recipe import Stage
from common.rehearsal import owned


@pytest.fixture
def job(tmp_path) -> Job:
    """A training stage that ran two steps."""
    (tmp_path / "checkpoints").mkdir()
    for step, seconds in ((1, 3.0), (2, 4.0)):
        torch.save({"callbacks": {"Cost": {"cpu_seconds": seconds}}}, tmp_path / f"checkpoints/step={step}.ckpt")
    (tmp_path / "weights.safetensors").write_text("weights.safetensors")
    (tmp_path / "done.json").write_text('{"metrics": {}, "cost": {}, "wall_seconds": 1, "cpu_seconds": 5}')
    (tmp_path / "log.txt").write_text("")
    return Job(Stage("fit", "module"), 0, "", tmp_path, [], [], {})


def test_rewinding_leaves_the_first_checkpoint(job):
    rehearsal.rewind(job)
    left = {str(path.relative_to(job.run_dir)) for path in job.run_dir.rglob("*") if path.is_file()}
    assert left == {"checkpoints/step=1.ckpt", "log.txt", rehearsal.UNDISTURBED, rehearsal.FIRST}
    assert job.done is None
    (job.run_dir / "done.json").write_text('{"cpu_seconds": 4.5}')  # of the resumed run, with the 3 before it
    assert rehearsal.cpu_seconds(job) == 5 + 1.5


@pytest.mark.parametrize(
    ("log", "weights", "equal"),
    [
        ("continuing from step=1.ckpt\n", "weights.safetensors", True),
        ("continuing from step=1.ckpt\n", "other", False),
        ("Seed set to 0\n", "weights.safetensors", False),  # it began anew, and so came out the same
    ],
)
def test_a_resumed_run_must_continue_and_meet_the_undisturbed_one(job, log, weights, equal):
    rehearsal.rewind(job)
    (job.run_dir / "log.txt").write_text(log)
    Path(job.run_dir, "weights.safetensors").write_text(weights)
    assert rehearsal.resumed_equal(job) is equal


@pytest.mark.parametrize(
    ("trainer", "several"),
    [
        ("{devices: 2}", True),
        ("{num_nodes: 2}", True),
        ("{devices: 1}", False),
        ("{devices: auto}", False),
        ("{}", False),
    ],
)
def test_a_config_says_whether_a_stage_is_for_several_devices(tmp_path, trainer, several):
    (tmp_path / "fit.yaml").write_text(f"trainer: {trainer}")
    argv = ["module", "fit", "--config", str(tmp_path / "fit.yaml"), "--trainer.devices", "1"]
    assert rehearsal.for_several_devices(Job(Stage("fit", "module"), 0, "", tmp_path, argv, [], {})) is several


def test_a_stage_for_several_devices_runs_in_two_processes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = tmp_path / "fit.yaml"
    config.write_text(
        "trainer: {devices: 8, max_steps: 2, accelerator: cpu, val_check_interval: 1}\ncheckpoint_every: 1"
    )
    argv = ["tests.common.tiny_stage", "fit", "--config", str(config), "--trainer.devices", "1"]
    argv += ["--run_dir", str(tmp_path / "seed0")]
    job = Job(Stage("fit", "tests.common.tiny_stage"), 0, "", tmp_path / "seed0", argv, [], {}, ["arm"])
    console = Console()
    outcome = rehearsal.run([job], "paper", "rehearsal", 1, console)
    assert not outcome.failed and len(outcome.ran) == 3  # once, resumed, and in two processes
    log = (tmp_path / "seed0-two-processes/log.txt").read_text()
    assert (tmp_path / "seed0-two-processes/done.json").exists(), log
    rehearsal.print_coverage([job], console)
    assert "in two processes" in capsys.readouterr().out


def test_a_recipe_without_stand_ins_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recipes, "load", lambda _: replace(recipe, stand_ins=""))
    recipe = importlib.import_module("projects.mobilesam.recipe").RECIPE
    assert reproduce.main(["mobilesam", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")]) == 2
    assert "names no `stand_ins`" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_stand_ins_are_made_anew_where_they_were_left_half_made(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text("def make(folder):\n    folder.mkdir()\n    (folder / 'data').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    (folder / "half").touch()
    stand_ins.make("made_up:make", folder)
    assert {path.name for path in folder.iterdir()} == {"data", "complete"}
    rehearsal.make_stand_ins("no_such_module:make", folder)  # they are there


def test_stand_ins_that_cannot_be_made_are_said_with_the_reason(tmp_path):
    with pytest.raises(
        UserError, match=r"stand-ins could not be made in .*\n(.*\n)*.*No module named 'no_such_module'"
    ):
        rehearsal.make_stand_ins("no_such_module:make", tmp_path / "stand-ins")
    assert not (tmp_path / "stand-ins/complete").exists()


LEADING = (
    "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_DATASETS_CACHE", "TORCH_HOME",
    "DIFFUSERS_CACHE", "SENTENCE_TRANSFORMERS_HOME", "XDG_CACHE_HOME", "HF_TOKEN", "HF_ENDPOINT", "TIMM_CACHE",
    "PYTORCH_PRETRAINED_BERT_CACHE", "HUGGING_FACE_HUB_TOKEN",
    "WANDB_DIR", "WANDB_API_KEY", "DATA_ROOT", "WEIGHTS_ROOT", "OPENCLIP_CACHE",
)  # fmt: skip


def test_no_variable_of_the_users_leads_out_of_the_stand_ins(tmp_path, monkeypatch):
    for name in LEADING:
        monkeypatch.setenv(name, "/the/users/own")
    monkeypatch.setenv("HFX", "kept")
    before = dict(os.environ)
    with owned.without_others():
        left = os.environ | preflight.environment(Request("mobilesam", "rehearsal"), tmp_path)
        assert "/the/users/own" not in left.values() and left["HFX"] == "kept"
        folders = [left[name] for name in LEADING if name in left]
        assert len(folders) > 8 and all(Path(folder).is_relative_to(tmp_path) for folder in folders)
    assert dict(os.environ) == before


def test_a_rehearsal_says_which_stand_ins_it_opened_and_opens_no_other_model(tmp_path):
    """In a process of its own: an audit hook stays."""
    for hub in ("own", "users"):
        folder = tmp_path / hub / "hub/hub/models--google--bert/snapshots/1"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    code = (
        "from pathlib import Path; from common.rehearsal.owned import keep_to; keep_to(Path('own'))\n"
        "for k in range(2): open('own/hub/hub/models--google--bert/snapshots/1/config.json').close()\n"
        "open('users/hub/hub/models--google--bert/snapshots/1/config.json')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(recipes.ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert owned.SAID.findall(ran.stdout) == ["google/bert"]
    assert ran.returncode and "a rehearsal reads its stand-ins alone" in ran.stderr


def test_one_stage_of_each_kind_stands_for_those_that_differ_in_numbers_and_data(tmp_path):
    def stage(name, text, **overrides):
        (tmp_path / f"{name}.yaml").write_text(text)
        argv = ["module", "fit", "--config", str(tmp_path / f"{name}.yaml")]
        return Job(Stage(name, "module", overrides), 0, "", tmp_path, argv, [], {})

    plain = stage("plain", "model: {width: 8, teacher: null}\ndata: {task: rte}")
    jobs = [
        plain,
        stage("wider", "model: {width: 16, teacher: null}\ndata: {task: cola}"),
        stage("switched", "model: {width: 8, teacher: null, ema: true}\ndata: {task: rte}"),
        stage("taught", "model: {width: 8, teacher: {hub: bert}}\ndata: {task: rte}"),
        stage("otherwise", "model: {width: 8, teacher: {hub: roberta}}\ndata: {task: rte}"),
        stage("elsewhere", "model: {width: 8, teacher: null}\ndata: {class_path: common.data.X}"),
        stage("weighted", "model: {width: 8, teacher: null}\ndata: {task: rte}", **{"model.weights": plain}),
    ]
    found = [job.stage.name for job in rehearsal.representatives(jobs)]
    assert found == ["plain", "switched", "taught", "otherwise", "elsewhere", "weighted"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where certificates are; MobileSAM has one that holds."""
    monkeypatch.setattr(certificates, "FOLDER", tmp_path / "benchmarks/rehearsals")
    now = certificates.present("mobilesam")
    certificates.write("mobilesam", {name: {"run": "fit", "cpu_seconds": 1.0} for name in now}, now, 2.0)
    return certificates.FOLDER


def test_a_certificate_holds_until_configs_code_or_versions_change(folder, monkeypatch):
    assert certificates.lapsed("mobilesam") == ""
    assert certificates.read("mobilesam")["cpu_seconds"] == 2 + len(certificates.present("mobilesam"))
    with monkeypatch.context() as patch:
        installed = certificates.metadata.version
        patch.setattr(certificates.metadata, "version", lambda name: f"{'.'.join(installed(name).split('.')[:2])}.99")
        assert certificates.lapsed("mobilesam") == ""  # a patch
        patch.setattr(certificates.metadata, "version", lambda name: "99.1" if name == "torch" else installed(name))
        assert "torch" in certificates.lapsed("mobilesam") and "99.1" in certificates.lapsed("mobilesam")
    digest = recipes._code_digest
    monkeypatch.setattr(recipes, "_code_digest", lambda modules: digest(modules) + "x" * ("distill" in str(modules)))
    why = certificates.lapsed("mobilesam")
    assert why.startswith("code or configs have changed") and "distill" in why and "embed" not in why


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"versions": 1, "stages": {}}', '{"versions": {}, "stages": {"a": 1}}']
)
def test_a_damaged_certificate_is_none(text, folder):
    certificates.path("mobilesam").write_text(text)
    assert certificates.lapsed("mobilesam") == "it has a certificate that cannot be read"
    certificates.path("mobilesam").unlink()
    assert certificates.lapsed("mobilesam") == "it has no certificate"


def test_a_certificate_changes_with_what_it_says_and_not_with_its_times(folder):
    now, file = certificates.present("mobilesam"), certificates.path("mobilesam")
    before = file.read_bytes()
    coverage = {name: {"run": "fit", "cpu_seconds": 7.0} for name in now}
    assert certificates.write("mobilesam", coverage, now, 0.0).startswith("certificate as before")
    assert file.read_bytes() == before
    coverage["distill"]["run"] = "test"
    assert certificates.write("mobilesam", coverage, now, 0.0).startswith(
        "certificate  benchmarks/rehearsals/mobilesam.json"
    )
    after = file.read_bytes()
    assert after != before
    said = certificates.write("mobilesam", coverage, {**now, "distill": "other"}, 0.0)  # changed while it ran
    assert said.startswith("no certificate") and file.read_bytes() == after


def test_every_recipe_has_its_turn():
    papers = [f"paper{k:02d}" for k in range(46)]
    commits = [hashlib.sha1(str(k).encode()).hexdigest() for k in range(400)]
    turns = [certificates.turn(papers, commit) for commit in commits]
    assert all(len(set(turn)) == certificates.AT_A_TIME for turn in turns)
    assert {paper for turn in turns for paper in turn} == set(papers)
    assert certificates.turn(papers[:1], commits[0]) == papers[:1] and certificates.turn([], commits[0]) == []
    assert len(certificates.turn(papers, "")) == certificates.AT_A_TIME  # without version control


def test_recipes_without_a_certificate_are_due_first(folder, monkeypatch):
    due = certificates.due(["mobilesam", "sinkd"])
    assert due == {"sinkd": "it has no certificate", "mobilesam": "it is its turn"}


def test_certificates_are_within_their_budget():
    for paper in recipes.names():
        found = certificates.read(paper)
        assert found is None or found["cpu_seconds"] <= certificates.BUDGET, paper
