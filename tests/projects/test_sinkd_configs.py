"""SinKD's configs: understood by their stages, arms that differ in their loss alone, GLUE as published."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.running.recipes import ROOT, load, page
from common.recipe import Scale, Stage, walk
from projects.sinkd.recipe import DECODER, GLUE, MINI, PAPER

CONFIGS = ROOT / "projects/sinkd/configs"
CASES = {
    (scale, data, stage.name, *(name for name in [arm] if stage.name in ("student", "student_mnli", "toy"))): stage
    for scale, data in (("mini", ""), ("mini", "goemotions"), ("small", ""), ("paper", ""))
    for arm, found in load("sinkd").arms_for(scale, data).items()
    for stage in walk(found.stages)
    if scale in ("mini", "small")
    or stage.name.split("_")[-1] in ("mnli", "evaluate", "released", "toy")  # the rehearsal runs all
}
LOSS = {f"model.{name}" for name in ("divergence", "alpha", "temperature", "beta", "group", "iterations")}


def read(stage: Stage, scale: Scale, data: str = "") -> dict[str, Any]:
    """A stage's config files, later ones on top of earlier ones."""
    merged: dict[str, Any] = {}
    for file in stage.config(scale, data):
        if (ROOT / file).exists():
            merge(merged, yaml.safe_load((ROOT / file).read_text()))
    return merged


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def stages(scale: Scale, arm: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in walk(load("sinkd").arms(scale)[arm].stages)}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_stage_understands_its_config_and_settings(case, read_stage):
    (scale, data, *_), stage = case, CASES[case]
    parsed = read_stage(stage, scale, data, output="x.safetensors")
    read = parsed.get("data", {})
    tasks = [read["task"]] if "task" in read else list(read.get("tasks", {}).values())
    wanted = "GoEmotions" if data else {"paper": "Glue", "small": "GoEmotionsPart", "mini": "Sentences"}[scale]
    assert {task["class_path"].rsplit(".", 1)[1] for task in tasks} <= {wanted}
    if scale == "paper" and "task" in read:
        assert tasks[0]["init_args"]["task"] == stage.name.split("_")[1] and tasks[0]["init_args"]["root"]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_arms_differ_in_their_loss_alone(scale):
    losses = {*MINI, *(f"{name}_decoder" for name in DECODER)} if scale == "mini" else set(PAPER)
    for name, arm in load("sinkd").arms(scale).items():
        students = [stage for stage in walk(arm.stages) if stage.module == "projects.sinkd.distill"]
        assert len(students) == ((1 if scale == "mini" else len(GLUE)) if name in losses else 0)
        for student in students:
            assert set(student.overrides) - LOSS <= {"model.teacher_weights", "data.tokenizer"}


def test_no_two_arms_have_the_same_loss():
    for scale in ("mini", "paper"):
        found = [
            (stage.name, *sorted((key, value) for key, value in stage.overrides.items() if key in LOSS))
            for arm in load("sinkd").arms(scale).values()
            for stage in walk(arm.stages)
            if stage.module == "projects.sinkd.distill"
        ]
        assert len(found) == len(set(found))


@pytest.mark.parametrize("arm", ["sinkhorn", "samplewise", "sinkhorn_alone"])
def test_a_batch_pulls_as_hard_at_paper_scale_as_at_mini_whatever_its_size(arm):
    """L_SD is a sum over the batch: its weight times the batch's size is what stands beside a mean."""
    student = stages("mini", arm)["student"]
    config = read(student, "mini")
    pull = student.overrides.get("model.beta", config["model"]["beta"]) * config["data"]["batch_size"]
    for task in GLUE:
        student = stages("paper", arm)[f"student_{task}"]
        batch = read(student, "paper")["data"]["batch_size"]
        assert student.overrides["model.beta"] * batch == pytest.approx(pull), task


def test_no_student_learns_from_the_distance_alone():
    """Any permutation of right predictions costs nothing: labels or soft labels have to say which is whose."""
    for scale in ("mini", "paper"):
        for arm in load("sinkd").arms(scale).values():
            for stage in walk(arm.stages):
                if stage.module == "projects.sinkd.distill":
                    model = read(stage, scale)["model"] | {
                        key.removeprefix("model."): value for key, value in stage.overrides.items()
                    }
                    assert model["alpha"] < 1 or model["divergence"] != "none", (scale, stage.name)


def test_students_and_evaluation_agree_on_the_nets():
    for scale, data, arm, family in (
        ("mini", "", "sinkhorn", ""),
        ("mini", "", "sinkhorn_decoder", "_decoder"),
        ("mini", "goemotions", "sinkhorn", ""),
        ("paper", "", "sinkhorn", "_cola"),
    ):
        found = stages(scale, arm)
        evaluate = found["evaluate" + (family if scale == "mini" else "")]
        nets = [read(stage, scale, data)["model"] for stage in (found["teacher" + family], found["student" + family])]
        tested = read(evaluate, scale, data)["model"]
        assert nets[0]["net"] == nets[1]["teacher"] == tested["teacher"]
        assert nets[1]["net"] == tested["net"]


def test_glue_has_the_settings_of_the_released_scripts():
    (table,) = (table for table in page("sinkd").tables if table.id == "settings")
    tasks = {row.label.lower().replace("-", ""): row.values for row in table.rows}
    assert set(tasks) == set(GLUE)
    known = stages("paper", "released_weight")
    scores = read(known["evaluate"], "paper")["model"]["scores"]
    for task, values in tasks.items():
        found = []
        for kind in ("teacher", "student"):
            config = read(known[f"{kind}_{task}"], "paper")
            assert config["data"]["task"]["init_args"]["task"] == task and config["data"]["max_length"] == 128
            assert config["model"]["keep"] == "best" and config["trainer"]["gradient_clip_val"] == 1
            found += [config["model"]["lr"], config["data"]["batch_size"], config["trainer"]["max_epochs"]]
        model = config["model"]
        found += [model["alpha"], model["temperature"], "annealed" if model["annealed"] else "constant"]
        assert found == [float(v) if isinstance(v, str) and "e-" in v else v for v in values[:-1]]
        assert model["beta"] == known[f"student_{task}"].overrides["model.beta"] == pytest.approx(values[-1] * 0.001)
        assert (model["sinkhorn_temperature"], model["epsilon"], model["iterations"]) == (2.0, 0.1, 20)
        assert scores[task] == model["score"]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
