"""LLMLingua-2's workloads and measured networks: sizes, what is trained, amounts."""

import pytest
import torch

from benchmarks.measuring.latency import flops
from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.llmlingua2.harness.plan import CHUNKS, TRANSCRIPTS, workload
from projects.llmlingua2.harness.speed import speed
from projects.llmlingua2.recipe import RECIPE

STAGES = {(name, s.name): s for name, arm in RECIPE.arms("paper").items() for s in walk(arm.stages)}


def planned(arm, name):
    with torch.device("meta"):
        return workload(STAGES[arm, name], configuration(STAGES[arm, name]))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_trainings_have_the_released_sizes():
    large, small = planned("llmlingua2", "train"), planned("llmlingua2_small", "train_small")
    assert count(large.model, trained=True) == count(large.model) == pytest.approx(559e6, rel=0.005)
    assert count(small.model) == pytest.approx(177e6, rel=0.01)
    assert large.batch == 10 and 0.6 * CHUNKS < large.samples < 0.7 * CHUNKS and "23 h" in large.reported


def test_evaluations_hold_a_reader_and_what_compresses_and_nothing_learns():
    sizes = {}
    for arm in ("llmlingua2", "released_small", "llmlingua", "full"):
        made = planned(arm, "evaluate")
        assert count(made.model, trained=True) == 0 and made.samples == TRANSCRIPTS
        sizes[arm] = {name: count(net) for name, net in made.model.items()}
    assert sizes["full"] == {"reader": pytest.approx(7.24e9, rel=0.01)}
    assert sizes["llmlingua"]["compressor"] == pytest.approx(6.74e9, rel=0.01)
    assert sizes["released_small"]["compressor"] < sizes["llmlingua2"]["compressor"] < 0.6e9
    assert count(planned("open_teacher", "distill").model) == pytest.approx(7.62e9, rel=0.01)


def test_a_chunk_takes_the_language_model_twenty_times_the_operations():
    networks = {network.name: network for network in speed().networks}
    found = {name: flops(network) for name, network in networks.items() if network.giant}
    assert 15 < found["LLaMA-2-7B"] / found["XLM-RoBERTa large"] < 30
