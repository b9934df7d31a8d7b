"""SinKD's configs: understood by their stages, arms that differ in their loss alone, GLUE as published."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.judging.tables import load_paper
from benchmarks.running.recipes import ROOT, load
from common.recipe import Output, walk
from projects.sinkd.recipe import GLUE, LOSSES, MINI_LOSSES

CONFIGS = ROOT / "projects/sinkd/configs"
CASES = {
    (scale, data, stage.name, *(name for name in [arm] if stage.name in ("student", "student_cola", "toy"))): stage
    for scale, data in (("mini", ""), ("mini", "goemotions"), ("paper", ""))
    for arm, found in load("sinkd").arms(scale).items()
    for stage in walk(found.stages)
}
LOSS = {f"model.{name}" for name in ("divergence", "alpha", "temperature", "beta", "group", "iterations")}


def read(file: str) -> dict:
    return yaml.safe_load((CONFIGS / file).read_text())


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, monkeypatch, capsys):
    (scale, data, *_), stage = case, CASES[case]
    files = [ROOT / file for file in stage.config(scale, data)]
    configs = [word for file in files if file.exists() for word in ("--config", str(file))]
    settings = [
        f"--{key}={'x.safetensors' if isinstance(value, Output) else value}" for key, value in stage.overrides.items()
    ]
    monkeypatch.setattr(sys, "argv", [stage.module, stage.run, *configs, *settings, "--print_config"])
    monkeypatch.delitem(sys.modules, stage.module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(stage.module, run_name="__main__")
    assert not ended.value.code
    parsed = yaml.safe_load(capsys.readouterr().out)
    if data and "task" in parsed["data"]:
        assert parsed["data"]["task"]["class_path"].endswith("GoEmotions")
    if data and "tasks" in parsed["data"]:
        assert [task["class_path"].rsplit(".", 1)[1] for task in parsed["data"]["tasks"].values()] == ["GoEmotions"]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_differ_in_their_loss_alone(scale):
    tasks = ("text",) if scale == "mini" else GLUE
    for name, arm in load("sinkd").arms(scale).items():
        students = [stage for stage in walk(arm.stages) if stage.module == "projects.sinkd.distill"]
        assert len(students) == (len(tasks) if name in LOSSES | MINI_LOSSES else 0)
        for student in students:
            assert set(student.overrides) - LOSS <= {"model.teacher_weights", "data.tokenizer"}


def test_students_and_evaluation_agree_on_the_nets():
    for scale, teacher, student in (
        ("mini", "teacher", "student"),
        ("mini/goemotions", "teacher", "student"),
        ("paper", "teacher_cola", "student_cola"),
    ):
        nets = [read(f"{scale}/{name}.yaml").get("model", {}) for name in (teacher, student, "evaluate")]
        assert nets[0].get("net") == nets[1].get("teacher") == nets[2].get("teacher")
        assert nets[1].get("net") == nets[2].get("net")


def test_glue_has_the_settings_of_the_released_scripts():
    (table,) = (
        table for table in load_paper("sinkd", list(load("sinkd").arms("paper"))).tables if table.id == "settings"
    )
    tasks = {row.label.lower().replace("-", ""): row.values for row in table.rows}
    assert set(tasks) == set(GLUE)
    for task, values in tasks.items():
        found = []
        for kind in ("teacher", "student"):
            config = read(f"paper/{kind}_{task}.yaml")
            assert config["data"]["task"]["init_args"]["task"] == task and config["data"]["max_length"] == 128
            assert config["model"]["keep"] == "best" and config["trainer"]["gradient_clip_val"] == 1
            found += [config["model"]["lr"], config["data"]["batch_size"], config["trainer"]["max_epochs"]]
        model = config["model"]
        found += [model["alpha"], model["temperature"], "annealed" if model["annealed"] else "constant"]
        assert found == [float(v) if isinstance(v, str) and "e-" in v else v for v in values[:-1]]
        assert model["beta"] == pytest.approx(values[-1] * 0.001)
        assert (model["sinkhorn_temperature"], model["epsilon"], model["iterations"]) == (2.0, 0.1, 20)
        assert read("paper/evaluate.yaml")["model"]["scores"][task] == model["score"]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
