"""Emo Pillars' workloads: the paper's sizes, who is trained, how much is read and written."""

import pytest
import torch

from benchmarks.planning.meter import materialise, measure
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.emo_pillars.harness.plan import UTTERANCES, workload
from projects.emo_pillars.harness.speed import speed
from projects.emo_pillars.recipe import RECIPE

ARMS = RECIPE.arms("paper")


def planned(arm, name):
    stage = next(stage for stage in walk(ARMS[arm].stages) if stage.name == name)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_classifiers_have_their_published_sizes_and_learn_whole():
    less, full = planned("synthetic", "contextless"), planned("contextual", "contextual")
    assert count(less.model) == count(less.model, trained=True) == 355_388_444
    assert count(full.model) == 355_389_468 and (less.batch, full.batch) == (64, 32)
    assert count(planned("tuned", "evaluate").model, trained=True) == 0
    assert 334e6 < count(planned("tuned_bert", "tune").model) < 337e6
    assert count(planned("untyped", "contextual").model) == 355_388_444


def test_the_language_model_has_seven_billion_parameters_and_reads_every_utterance():
    made = planned("tuned_own", "levels")
    assert 7.2e9 < count(made.model) < 7.3e9 and count(made.model, trained=True) == 0
    assert made.samples == UTTERANCES == 300_000
    assert planned("contexts", "contexts").samples == 100_000


def test_a_token_costs_twice_the_weights():
    made = planned("synthetic", "contextless")
    materialise(made, "32-true")
    found = measure(made, 2, "32-true").forward / (2 * 128)
    assert found == pytest.approx(2 * 303e6, rel=0.1)  # embeddings are looked up


def test_batches_for_the_speed_bench_are_pairs(tmp_path):
    batch = speed().sources[0].build(tmp_path)(0)
    assert batch["token_type_ids"].any() and batch["labels"].shape == (32, 2)
