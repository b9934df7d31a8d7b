"""ProCLIP's workloads and networks: the paper's sizes, who is trained, and what is read how often."""

import torch

from benchmarks.planning.stages import configuration
from common.recipe import walk
from projects.proclip.harness.plan import LLAMA, PAIRS, VIEWS, workload
from projects.proclip.harness.speed import ADAPTER, TEXT, speed
from projects.proclip.recipe import RECIPE

ARMS = RECIPE.arms("paper")
ADAPTED = 271_635_200  # d 4096, D 768


def planned(arm, name):
    stage = next(stage for stage in walk(ARMS[arm].stages) if stage.name == name)
    with torch.device("meta"):
        return workload(stage, configuration(stage))


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_who_is_trained_and_who_stands_by():
    visual = count(planned("lit", "tune").model) - ADAPTED
    assert 303e6 < visual < 305e6
    for arm, trained, held in (
        ("lit", ADAPTED, ADAPTED + visual),
        ("direct", ADAPTED + visual, ADAPTED + visual),
        ("proclip", ADAPTED + visual, ADAPTED + 2 * visual),
    ):
        made = planned(arm, "tune")
        assert (count(made.model, trained=True), count(made.model)) == (trained, held)
    made = planned("proclip", "inherit")
    assert count(made.model, trained=True) == ADAPTED and made.samples == PAIRS[1]
    assert planned("proclip_l14_30m", "tune").samples == PAIRS[3]


def test_the_llama_reads_every_caption_once():
    made = planned("proclip", "embed_pairs")
    assert 7.5e9 < count(made.model) < 8.1e9 and count(made.model, trained=True) == 0  # without the head of its output
    assert made.samples == VIEWS * PAIRS[3] and LLAMA["hidden_size"] == 4096


def test_the_networks_of_the_speed_bench():
    with torch.device("meta"):
        found = {network.name: count(network.build()[0]) for network in speed().networks}
    assert found[ADAPTER] == ADAPTED and 123e6 < found[TEXT] < 125e6
