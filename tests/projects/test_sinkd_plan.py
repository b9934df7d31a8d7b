"""SinKD's workloads: the networks' sizes, what is trained, whom a student asks, the amounts of GLUE."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.sinkd.harness import plan
from projects.sinkd.harness.plan import DEVELOPMENT, TEXTS, workload
from projects.sinkd.recipe import RECIPE

ARMS = RECIPE.arms("paper")
STAGES = {(name, stage.name): stage for name, arm in ARMS.items() for stage in walk(arm.stages)}


def planned(arm, name):
    with torch.device("meta"):
        return workload(STAGES[arm, name], configuration(STAGES[arm, name]))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_networks_have_the_released_sizes_and_a_student_alone_learns():
    assert count(planned("teacher", "teacher_mnli").model) == 109_484_547  # BERT-base with three classes
    student = planned("sinkhorn", "student_mnli")
    assert count(student.model["net"]) == count(student.model, trained=True) == 66_957_315
    assert count(student.model["teacher"]) == 109_484_547
    assert student.samples == TEXTS["mnli"] and planned("sinkhorn", "student_rte").samples == TEXTS["rte"]


def test_every_task_of_the_recipe_has_its_amount():
    for (_, name), stage in STAGES.items():
        if name.startswith(("teacher_", "student_")):
            assert configuration(stage)["data"]["task"]["init_args"]["task"] in TEXTS
    evaluated = configuration(STAGES["teacher", "evaluate"])["data"]["tasks"]
    assert set(evaluated) == set(DEVELOPMENT) and planned("teacher", "evaluate").samples == sum(DEVELOPMENT.values())


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(plan, "LAYERS", {"bert-base-uncased": 2, "google/bert_uncased_L-6_H-768_A-12": 1})


def test_labels_alone_ask_no_teacher(small):
    def flop(arm):
        made = planned(arm, "student_rte")
        materialise(made, "32-true")
        step = measure(made, 2, "32-true")
        return step.forward, step.backward

    labels, method, soft = flop("ce"), flop("sinkhorn"), flop("kl")
    assert method[0] > 2.5 * labels[0] and method[1] == pytest.approx(labels[1], rel=1e-3)  # a teacher of two layers
    assert soft == pytest.approx(method, rel=1e-3)


@pytest.mark.parametrize("arm", ["toy_kl", "toy_js", "toy_transport"])
def test_the_toy_study_takes_a_step_in_one_dimension(arm):
    made = planned(arm, "toy")
    assert count(made.model, trained=True) == 2 * made.batch
    materialise(made, "32-true")
    assert len(measure(made, made.batch, "32-true").operations) > 5
