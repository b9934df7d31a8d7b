"""The plan of a stage: what fits, steps, devices, errors, the table."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.plan import main
from benchmarks.planning import stages as planner
from benchmarks.planning.gpus import Gpu, gpu, gpus
from benchmarks.planning.meter import count
from benchmarks.planning.stages import card_of, largest_batch, plan_stage, steps_of
from benchmarks.planning.tables import print_plan
from benchmarks.planning.units import duration, quantity
from benchmarks.running import recipes
from common.errors import UserError
from common.recipe import Recipe, Stage
from common.workload import Workload

CARD = gpu("a100-80g")
LAYER = 1_001_000  # parameters
VIEWS = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"gradient_as_bucket_view": True}}


def planned(card=CARD, devices=1, run="fit", batch=4, fused=False, **trainer):
    """A stage whose networks are two layers, of which one is trained."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1000))
    model[0].requires_grad_(run == "fit")
    model[2].requires_grad_(False)
    work = Workload(model, lambda n: model(torch.zeros(n, 1000)).sum(), batch=batch, samples=100, fused=fused)
    config = {"trainer": {"max_steps": 10, "precision": "32-true", **trainer}}
    return plan_stage(Stage("train", "somewhere", run=run), config, count(work, "32-true"), card, devices)


def test_weights_gradients_and_optimiser():
    made = planned()
    assert made.trained == made.frozen == LAYER
    assert made.weights == 2 * LAYER * 4 and made.gradients == LAYER * 4 and made.optimizer == LAYER * 8
    assert made.forward == 2 * 2 * 1000 * 1000 and made.steps == 10 and made.samples == 40 and made.fits
    assert made.seconds == pytest.approx(10 * made.step_seconds) and made.runs == 3
    assert sum(made.bound.values()) == pytest.approx(1)


def test_devices_multiply_the_samples_and_need_buckets_for_gradients():
    one, eight = planned(), planned(devices=8)
    assert eight.samples == 8 * one.samples and eight.steps == one.steps
    assert eight.peak - one.peak == pytest.approx(1.05 * one.gradients)
    assert eight.device_hours == pytest.approx(8 * one.device_hours)
    assert planned(devices=0, num_nodes=2, **{"strategy": "ddp"}).devices == 2
    assert planned(accumulate_grad_batches=2).samples == 80


def test_a_config_says_how_many_devices_unless_it_leaves_that_open():
    def devices(**trainer):
        return plan_stage(Stage("s", "m"), {"trainer": {"max_steps": 1, **trainer}}, COST, CARD).devices

    assert devices(devices=4, num_nodes=2) == 8 and devices(devices="auto") == devices() == 1


with torch.device("meta"):
    LINEAR = nn.Linear(10, 10)
COST = count(Workload(LINEAR, lambda n: LINEAR(torch.zeros(n, 10)).sum(), 1, samples=8), "32-true")


def test_views_save_the_buckets_and_a_fused_optimiser_its_temporary_tensors():
    gradients = planned().gradients
    plain = {"devices": 8, "batch": 1}  # where the optimiser's step is the worst moment
    assert planned(**plain).peak - planned(**plain, strategy=VIEWS).peak == pytest.approx(1.05 * gradients, rel=0.01)
    saved = planned(**plain).peak - planned(**plain, fused=True).peak
    assert 0.9 * 1.05 * gradients < saved <= 1.05 * gradients


def test_gradients_that_accumulate_are_there_when_the_backward_pass_begins():
    # the second layer's input has let go of what it held by the time the first layer's gradient is made
    once, twice = planned(batch=1000, fused=True), planned(batch=1000, fused=True, accumulate_grad_batches=2)
    assert once.peak < twice.peak <= once.peak + 1.05 * once.gradients
    assert planned(batch=1000, fused=True, devices=2, strategy=VIEWS).peak == pytest.approx(twice.peak)


@pytest.mark.parametrize(
    "strategy", ["fsdp", "deepspeed_stage_2", {"class_path": "lightning.pytorch.strategies.FSDPStrategy"}]
)
def test_a_strategy_that_shares_out_the_weights_is_not_modelled(strategy):
    with pytest.raises(UserError, match="stage train: trainer.strategy .* is not modelled; these are: auto, ddp"):
        planned(strategy=strategy)


def test_the_largest_batch_fits_and_the_next_does_not():
    card = replace(CARD, memory=1.2)
    largest = planned(card).largest_batch
    assert 4 < largest < 100_000
    assert planned(card, batch=largest).fits and not planned(card, batch=largest + 1).fits
    small = planned(replace(CARD, memory=1.0))
    assert not small.fits and small.largest_batch == 0


def test_the_largest_batch_is_exact():
    tried = []

    def peak(n):  # grows faster than a line
        tried.append(n)
        return 100 + 10 * n + n * n

    assert largest_batch(peak, 1000) == 25 and len(tried) < 15  # 975 of 1000; 26 needs 1036
    assert largest_batch(peak, 110) == 0 and largest_batch(peak, 111) == 1
    assert largest_batch(lambda n: max(500, 30 * n), 1000) == 33  # flat at first
    assert largest_batch(lambda n: 1, 1000) == planner.LARGEST  # a network that needs nothing for a sample


def test_nothing_trained_needs_no_gradients():
    made = planned(run="predict")
    assert made.trained == made.gradients == made.optimizer == 0 and made.backward == 0 and made.steps == 25
    assert planned(run="test").largest_batch is None


def test_steps():
    fit, predict = Stage("train", "m"), Stage("embed", "m", run="predict")
    assert steps_of(fit, {"max_steps": 7}, 100, 8) == 7
    assert steps_of(fit, {"max_epochs": 3}, 100, 8) == 36
    assert steps_of(fit, {"max_steps": 1000, "max_epochs": 1}, 100, 8) == 12
    assert steps_of(predict, {}, 100, 8) == 13
    with pytest.raises(UserError, match="neither trainer.max_steps nor trainer.max_epochs"):
        steps_of(fit, {}, 100, 8)


def test_every_gpu_has_all_figures_and_a_source():
    for name in gpus():
        card = gpu(name)
        assert isinstance(card, Gpu) and card.source
        assert card.memory > 0 and card.bf16 >= card.tf32 >= card.fp32 > 0


@pytest.mark.parametrize("paper", recipes.names())
def test_every_recipe_names_what_its_configs_are_written_for(paper):
    assert card_of(recipes.load(paper)) in gpus()


def test_a_recipe_for_the_cpu_is_planned_on_one():
    recipe = Recipe("title", "text", arms=lambda scale: {}, paper_on_cpu=True)
    assert card_of(recipe) == "cpu" and card_of(replace(recipe, paper_on_cpu=False, gpu="l4")) == "l4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilesam", "--gpu", "h10"], "unknown GPU 'h10': did you mean h100"),
        (["mobilesm"], "unknown paper 'mobilesm': did you mean mobilesam"),
        (["mobilesm", "--record"], "unknown paper 'mobilesm': did you mean mobilesam"),
        (["mobilesam", "--arms", "decoupld"], "unknown arm 'decoupld'"),
        (["mobilesam", "--devices", "two"], "DEVICES=two: a positive whole number"),
        (["mobilesam", "--price", "-1"], "PRICE=-1: a positive number"),
        (["mobilesam", "--utilisation", "2"], "--utilisation 2.0"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_without_a_hook_says_so(monkeypatch, capsys):
    recipe = recipes.load("mobilesam")
    monkeypatch.setattr(recipes, "load", lambda paper: replace(recipe, plan=""))
    assert main(["mobilesam"]) == 2
    assert "mobilesam cannot be planned: projects/mobilesam/recipe.py names no `plan`" in capsys.readouterr().err


def test_figures_for_people():
    assert [quantity(x) for x in (5_743_892, 77.5e9, 0, 200)] == ["5.74 M", "77.5 G", "0", "200"]
    assert [duration(x) for x in (0.012, 40, 1500, 12_240, 10 * 86400)] == [
        "12 ms",
        "40 s",
        "25 min",
        "3.4 h",
        "10 days",
    ]


def test_a_stage_that_waits_for_its_data_says_so(capsys):
    quick = planned()
    slow = replace(quick, stage="slow", loader_seconds=2.0, step_seconds=2.0, seconds=20.0)
    recipe = recipes.load("mobilesam")
    downloads = sum(download.gigabytes or 0.0 for download in recipe.downloads)
    print_plan("toy", recipe, [quick, slow], CARD, 3.0, 0.5, 3)
    shown = capsys.readouterr().out
    assert "slow waits for its data" in shown and "train waits for its data" not in shown
    assert "nobody has measured for train" in shown and f"to download  {downloads:.1f} GB" in shown
    assert "at 3 an hour" in shown and "loading" in shown
