"""The planner: operations against published figures, memory against real tensors, what fits, steps, errors."""

from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

from benchmarks import plan as planner
from benchmarks.plan import GPUS, gpu, largest_batch, main, plan_stage, steps_of
from benchmarks.planning.meter import Gpu, StepMeter, materialise, measure
from benchmarks.planning.tables import duration, print_plan, quantity
from common.errors import UserError
from common.recipe import Stage
from common.workload import Workload

CARD = gpu("a100-80g")


def forward(build, call, batch=1):
    """(FLOP, parameters) of one forward pass of a network on the meta device."""
    with torch.device("meta"):
        model = build().eval().requires_grad_(False)
    workload = Workload(model, lambda n: call(model, n), batch=batch, samples=1)
    materialise(workload, "32-true")
    flops = measure(workload, batch, "32-true", CARD, 0.5).forward_flops
    return flops, sum(parameter.numel() for parameter in model.parameters())


def image(model, n):
    return model(torch.zeros(n, 3, 1024, 1024))


@pytest.mark.parametrize(
    ("size", "macs"),
    [
        ("vit_h", 2973e9),  # EfficientViT-SAM (arXiv 2402.05008) §1: 2973 GMACs an image
        ("vit_b", 487e9),  # TinySAM (arXiv 2312.13789), table of zero-shot instance segmentation: 487 G
    ],
)
def test_sam_encoders_cost_what_is_published(size, macs):
    from common.models.sam import SamConfig, build_sam

    flops, _ = forward(lambda: build_sam(SamConfig.named(size)).image_encoder, image)
    assert flops == pytest.approx(2 * macs, rel=0.05)


def test_resnet50_costs_what_torchvision_says():
    from torchvision.models import resnet50

    flops, parameters = forward(resnet50, lambda model, n: model(torch.zeros(n, 3, 224, 224)), batch=2)
    # torchvision's page of resnet50: "GFLOPS 4.09", which are multiply-adds, and 25,557,032 parameters
    assert flops / 2 == pytest.approx(2 * 4.09e9, rel=0.05)
    assert parameters == 25_557_032


def test_bert_base_costs_what_is_published():
    from transformers import BertConfig, BertModel

    def bert(length):
        return forward(
            lambda: BertModel(BertConfig(), add_pooling_layer=False),
            lambda model, n: model(torch.zeros(n, length, dtype=torch.long)),
        )[0]

    # onnx-tool's README, BERT-Squad of the ONNX model zoo, whose input has 256 tokens: 22,767 M multiply-adds
    assert bert(256) == pytest.approx(2 * 22_767e6, rel=0.05)
    # Megatron-LM (arXiv 2104.04473, appendix): a forward pass of l layers takes 24 s l h^2 (1 + s / 6h)
    assert bert(512) == pytest.approx(24 * 512 * 12 * 768**2 * (1 + 512 / (6 * 768)), rel=1e-3)


def test_the_unet_of_stable_diffusion_costs_what_is_published():
    from diffusers import UNet2DConditionModel

    def call(model, n):
        return model(torch.zeros(n, 4, 64, 64), torch.zeros(n), torch.zeros(n, 77, 768))

    sizes = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # of SD 1.5's unet/config.json
    flops, parameters = forward(lambda: UNet2DConditionModel(**sizes), call)
    assert parameters == 859_520_964
    # scores and mixing, 2 * 2 * queries * keys * width each: two self- and cross-attentions on the way down and three
    # on the way up at 64, 32 and 16 latent pixels, one in the middle at 8
    blocks = [(64**2, 320, 5), (32**2, 640, 5), (16**2, 1280, 5), (8**2, 1280, 1)]
    attention = sum(number * 4 * tokens * (tokens + 77) * width for tokens, width, number in blocks)
    # BK-SDM's own count of SD 1.4 at 512 pixels (its repository's issue 53, with thop): 338,749,194,240 multiply-adds;
    # that counter sees layers, not the products within attention
    assert flops - attention == pytest.approx(2 * 338_749_194_240, rel=0.05)


def test_a_depthwise_convolution_costs_twice_its_forward_pass_backward():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False))
    workload = Workload(model, lambda n: model(torch.zeros(n, 8, 16, 16)).sum(), batch=2, samples=2)
    materialise(workload, "32-true")
    step = measure(workload, 2, "32-true", CARD, 0.5)
    pointwise, depthwise = 2 * 2 * 16 * 16 * 8 * 8, 2 * 2 * 16 * 16 * 8 * 9
    assert step.forward_flops == pointwise + depthwise
    assert step.backward_flops == pointwise + 2 * depthwise  # nobody asks for the gradient of the images


def transformer():
    return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)


def attend(model):
    return lambda n: model(torch.zeros(n, 50, 32)).square().mean()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_memory_and_operations_are_those_of_real_tensors(precision):
    with torch.device("meta"):
        fake = transformer()
    workload = Workload(fake, attend(fake), batch=4, samples=4)
    materialise(workload, precision)
    planned = measure(workload, 4, precision, CARD, 0.5)

    real = transformer()
    meter = StepMeter(CARD, 0.5)
    with meter:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = attend(real)(4)
        forward_peak, forward_flops = meter.peak, meter.flops
        meter.peak = meter.live
        loss.backward()
    assert planned.forward_peak == forward_peak and planned.backward_peak == meter.peak
    assert planned.forward_flops == forward_flops and planned.backward_flops == meter.flops - forward_flops > 0


def test_peak_of_a_chain_is_what_backward_needs():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(4)))
    workload = Workload(model, lambda n: model(torch.zeros(n, 100)).sum(), batch=1000, samples=1)
    materialise(workload, "32-true")
    step = measure(workload, 1000, "32-true", CARD, 0.5)
    assert step.forward_peak == 1000 * 100 * 4 * 5 + 4  # the input and four outputs, of which three are saved; the sum


class Cost:
    """Stands in for a config on disk: a stage whose networks are two layers."""

    def __init__(self, monkeypatch, **trainer):
        config = {"trainer": {"max_steps": 10, "precision": "32-true", **trainer}}
        monkeypatch.setattr(planner, "configuration", lambda stage: config)

    def plan(self, card=CARD, devices=1, run="fit", batch=4):
        def describe(stage, config):
            model = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1000))
            model[0].requires_grad_(run == "fit")
            model[2].requires_grad_(False)
            return Workload(model, lambda n: model(torch.zeros(n, 1000)).sum(), batch=batch, samples=100)

        return plan_stage(Stage("train", "somewhere", run=run), describe, card, devices, 3, 0.5)


def test_weights_gradients_and_optimiser(monkeypatch):
    made = Cost(monkeypatch).plan()
    assert made.trained == made.frozen == 1_001_000
    assert made.weights == 2 * 1_001_000 * 4 and made.gradients == 1_001_000 * 4 and made.optimizer == 1_001_000 * 8
    assert made.forward == 2 * 2 * 1000 * 1000 and made.steps == 10 and made.samples == 40 and made.fits
    assert made.seconds == pytest.approx(10 * made.step_seconds) and made.runs == 3
    assert sum(made.bound.values()) == pytest.approx(1)


def test_devices_multiply_the_samples_and_need_buckets_for_gradients(monkeypatch):
    one, eight = Cost(monkeypatch).plan(), Cost(monkeypatch).plan(devices=8)
    assert eight.samples == 8 * one.samples and eight.steps == one.steps
    assert eight.peak - one.peak == pytest.approx(1.05 * one.gradients)
    assert eight.device_hours == pytest.approx(8 * one.device_hours)
    assert Cost(monkeypatch, devices=4, num_nodes=2).plan(devices=0).devices == 8
    assert Cost(monkeypatch, devices="auto").plan(devices=0).devices == 1
    assert Cost(monkeypatch, accumulate_grad_batches=2).plan().samples == 80


def test_the_largest_batch_fits_and_the_next_does_not(monkeypatch):
    cost = Cost(monkeypatch)
    card = replace(CARD, memory=1.2)
    largest = cost.plan(card).largest_batch
    assert 4 < largest < 100_000
    assert cost.plan(card, batch=largest).fits and not cost.plan(card, batch=round(1.03 * largest)).fits
    small = cost.plan(replace(CARD, memory=1.0))
    assert not small.fits and small.largest_batch == 0


def test_a_wrong_guess_is_corrected():
    def peak(n):  # grows faster than the first two batches tell
        return 100 + 10 * n + n * n

    assert largest_batch(peak, {1: peak(1), 2: peak(2)}, 1000) == 25  # 975 of 1000; 26 needs 1036
    assert largest_batch(peak, {64: peak(64), 128: peak(128)}, 1000) == 25
    assert largest_batch(peak, {8: peak(8), 16: peak(16)}, 110) == 0
    assert largest_batch(lambda n: max(500, 30 * n), {1: 500, 2: 500}, 1000) == 33  # flat at first


def test_linear_memory_is_measured_once_more_and_not_again():
    tried = []

    def peak(n):
        tried.append(n)
        return 100 + 10 * n

    assert largest_batch(peak, {1: 110, 2: 120}, 1000) == 90 and tried == [90]
    assert largest_batch(peak, {64: 740, 128: 1380}, 1000) == 90 and tried == [90, 90]


def test_nothing_trained_needs_no_gradients(monkeypatch):
    made = Cost(monkeypatch).plan(run="predict")
    assert made.trained == made.gradients == made.optimizer == 0 and made.backward == 0 and made.steps == 25


def test_steps():
    fit, predict = Stage("train", "m"), Stage("embed", "m", run="predict")
    assert steps_of(fit, {"max_steps": 7}, 100, 8) == 7
    assert steps_of(fit, {"max_epochs": 3}, 100, 8) == 36
    assert steps_of(fit, {"max_steps": 1000, "max_epochs": 1}, 100, 8) == 12
    assert steps_of(predict, {}, 100, 8) == 13
    with pytest.raises(UserError, match="neither trainer.max_steps nor trainer.max_epochs"):
        steps_of(fit, {}, 100, 8)


def test_an_unknown_precision_is_named(monkeypatch):
    with pytest.raises(UserError, match="precision transformer-engine is not modelled"):
        Cost(monkeypatch, precision="transformer-engine").plan()


def test_every_gpu_has_all_figures_and_a_source():
    for name in yaml.safe_load(GPUS.read_text()):
        card = gpu(str(name))
        assert isinstance(card, Gpu) and card.source
        assert card.memory > 0 and card.bf16 >= card.tf32 >= card.fp32 > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilesam", "--gpu", "h10"], "unknown GPU 'h10': did you mean h100"),
        (["mobilesm"], "unknown paper 'mobilesm': did you mean mobilesam"),
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
    recipe = planner.recipes.load("mobilesam")
    monkeypatch.setattr(planner.recipes, "load", lambda paper: replace(recipe, plan=""))
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


def test_a_stage_that_waits_for_its_data_says_so(monkeypatch, capsys):
    quick = Cost(monkeypatch).plan()
    slow = replace(quick, stage="slow", loader_seconds=2.0, step_seconds=2.0, seconds=20.0)
    downloads = sum(download.gigabytes or 0.0 for download in planner.recipes.load("mobilesam").downloads)
    print_plan("toy", planner.recipes.load("mobilesam"), [quick, slow], CARD, 3.0, 0.5, 3)
    shown = capsys.readouterr().out
    assert "slow waits for its data" in shown and "train waits for its data" not in shown
    assert "nobody has measured for train" in shown and f"to download  {downloads:.1f} GB" in shown
    assert "at 3 an hour" in shown and "loading" in shown
