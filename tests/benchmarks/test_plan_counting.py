"""Counting a step: operations against published figures and closed forms, memory against real tensors, at any batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from benchmarks.planning.cost import largest
from benchmarks.planning.gpus import gpu
from benchmarks.planning.meter import StepMeter, count, growth, materialise, measure, memory
from common.errors import UserError
from common.losses.contrastive import clip_loss
from common.workload import Workload


def counted(build, call, batch=1, precision="32-true", growing=True):
    """The cost of a step of a network on the meta device."""
    with torch.device("meta"):
        model = build()
    return count(Workload(model, lambda n: call(model, n), batch, samples=1), precision, growing)


def forward(build, call, batch=1):
    """(FLOP, parameters) of one forward pass."""
    cost = counted(lambda: build().eval().requires_grad_(False), call, batch, growing=False)
    return cost.forward, cost.frozen


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


# Closed forms: B samples; every tensor in float32


def test_a_linear_layer():
    def layers():
        return nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 7))

    cost = counted(layers, lambda model, n: model(torch.zeros(n, 100)).sum(), batch=64)
    first, second = 100 * 300, 300 * 7
    assert cost.trained == first + 300 + second + 7 and cost.frozen == 0
    assert cost.weights == cost.gradients == 4 * cost.trained
    assert cost.forward == 2 * 64 * (first + second)
    # of weight and input in the second layer; of the weight in the first, whose input wants none
    assert cost.backward == 2 * 64 * (first + 2 * second)
    # the input; what ReLU reads, which is let go, and what it makes: more than the output and the sum that come later
    assert largest(cost.memory.forward, 64) == 4 * 64 * (100 + 300 + 300)
    assert largest(cost.memory.forward, 640) == 4 * 640 * (100 + 300 + 300)


def test_a_convolution():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False))
    cost = count(Workload(model, lambda n: model(torch.zeros(n, 8, 16, 16)).sum(), 2, 2), "32-true")
    pointwise, depthwise = 2 * 2 * 16 * 16 * 8 * 8, 2 * 2 * 16 * 16 * 16 * 9
    assert cost.trained == 8 * 8 + 16 * 9
    assert cost.forward == pointwise + depthwise
    assert cost.backward == pointwise + 2 * depthwise  # nobody asks for the gradient of the images
    assert largest(cost.memory.forward, 2) == 2 * 16 * 16 * (8 + 8 + 16) * 4 + 4  # input, both outputs, the sum
    assert {operation.arithmetic for operation in cost.operations if operation.flop} == {"tf32"}


class Attention(nn.Module):
    """Self-attention of width D with H heads, and nothing else."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width))


def test_an_attention_block():
    batch, tokens, width = 4, 50, 32
    cost = counted(lambda: Attention(width, 4), lambda model, n: model(torch.zeros(n, tokens, width)).sum(), batch)
    projections = 2 * batch * tokens * 4 * width * width
    mixing = 2 * 2 * batch * tokens * tokens * width  # q k^T, and the weights times v
    assert cost.trained == 4 * width * width + 4 * width
    assert cost.forward == projections + mixing
    # projections: weights twice but for the input's gradient of qkv; attention: scores anew, and four products more
    assert cost.backward == 2 * projections - 2 * batch * tokens * 3 * width * width + 5 * mixing // 2


def test_tied_weights_are_counted_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(1000, 16), nn.Linear(16, 1000, bias=False)
            self.out.weight = self.words.weight

        def forward(self, ids):
            return self.out(self.words(ids))

    def call(model, n):
        return model(torch.zeros(n, 10, dtype=torch.long)).sum()

    for precision in ("32-true", "bf16-mixed", "bf16-true"):
        cost = counted(Tied, call, batch=3, precision=precision)
        assert cost.trained == 16_000
        assert cost.weights == cost.gradients == 16_000 * (2 if precision == "bf16-true" else 4)
        assert cost.forward == 2 * 3 * 10 * 16 * 1000 and cost.backward == 2 * cost.forward
        # one gradient is left, not two: what the backward pass ends with beside the step's own tensors
        assert largest(cost.memory.beside, 3) <= largest(cost.memory.backward, 3)


def test_tied_weights_of_a_language_model_are_those_of_the_hub():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(**sizes, intermediate_size=128, vocab_size=500, tie_word_embeddings=True, use_cache=False)
    real = sum(parameter.numel() for parameter in Qwen2ForCausalLM(config).parameters())
    cost = counted(
        lambda: Qwen2ForCausalLM(config), lambda model, n: model(torch.zeros(n, 8, dtype=torch.long)).logits.sum()
    )
    assert cost.trained == real


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_recomputing_trades_operations_for_memory(precision):
    def build():
        return nn.ModuleList(nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(6))

    def run(model, n, recomputed):
        x = torch.zeros(n, 64, requires_grad=True)
        for block in model:
            x = checkpoint(block, x, use_reentrant=False) if recomputed else block(x)
        return x.sum()

    plain = counted(build, lambda model, n: run(model, n, False), 32, precision)
    recomputed = counted(build, lambda model, n: run(model, n, True), 32, precision)
    assert recomputed.forward == plain.forward
    # everything again, but for the last product of each block, whose output nobody reads
    assert plain.backward < recomputed.backward <= plain.backward + plain.forward
    for part in ("forward", "backward"):  # of a batch beside which the weights are few
        memory = [largest(getattr(cost.memory, part), 100_000) for cost in (recomputed, plain)]
        assert memory[0] < memory[1] / 2


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
    planned = measure(workload, 4, precision)

    real = transformer()
    meter = StepMeter()
    hooks = [parameter.register_post_accumulate_grad_hook(meter.settle) for parameter in real.parameters()]
    with meter:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = attend(real)(4)
        meter.turn()
        loss.backward()
    assert len(hooks) == len(list(real.parameters()))
    assert (planned.forward, planned.backward) == (meter.forward, meter.backward) and meter.backward > 0
    assert planned.operations == meter.operations
    for own, theirs in zip(_peaks(planned), _peaks(meter), strict=True):
        assert own == theirs


def _peaks(step):
    """Bytes at the worst moments of a measured step."""
    found = memory(step, step, 1)
    return [largest(part, 1) for part in (found.forward, found.backward, found.beside)]


def test_peak_of_a_chain_is_what_backward_needs():
    def build():
        return nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(4)))

    cost = counted(build, lambda model, n: model(torch.zeros(n, 100)).sum(), batch=1000)
    # the input and four outputs, of which three are saved; the sum
    assert largest(cost.memory.forward, 1000) == 1000 * 100 * 4 * 5 + 4
    layer, vector = 100 * 100 * 4, 10 * 100 * 4
    assert largest(cost.memory.backward, 10) == 4 * layer + 2 * vector + 8  # at the end: the input, the last gradient
    # into gradients that are there already: all activations, and the first gradient before it is added
    assert largest(cost.memory.beside, 10) == layer + 5 * vector + 8


class Pairs(nn.Module):
    """Every sample beside every other, as in a contrastive loss."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 8)

    def forward(self, n):
        return clip_loss(self.net(torch.zeros(n, 8)), self.net(torch.zeros(n, 8)), 10.0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["transformer", "pairs"])
def test_memory_at_any_batch_follows_from_two(kind, precision):
    with torch.device("meta"):
        model = transformer() if kind == "transformer" else Pairs()
    workload = Workload(model, attend(model) if kind == "transformer" else model, batch=16, samples=1)
    found = count(workload, precision).memory
    for batch in (1, 3, 16, 100, 1000):
        step = measure(workload, batch, precision)
        expected = [largest(part, batch) for part in (found.forward, found.backward, found.beside)]
        assert expected == pytest.approx(_peaks(step), rel=0.01)


def test_a_step_that_goes_another_way_at_another_batch_is_told_by_its_worst_moments():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(10, 10)

        def forward(self, n):
            x = self.net(torch.zeros(n, 10))
            return (x if n < 10 else x * 2).sum()

    with torch.device("meta"):
        model = Fickle()
    workload = Workload(model, model, batch=8, samples=1)
    found = count(workload, "32-true").memory
    assert largest(found.forward, 8) == _peaks(measure(workload, 8, "32-true"))[0]
    assert largest(found.forward, 16) == _peaks(measure(workload, 16, "32-true"))[0]


def test_tensors_may_go_in_another_order_at_another_batch():
    one, two = StepMeter(), StepMeter()
    one.sizes, two.sizes = [10, 4, 6], [20, 4, 12]
    one.events = one.beside = [(0, 1), (1, 1), (0, -1), (1, -1), (2, 1)]
    two.events = two.beside = [(0, 1), (1, 1), (1, -1), (0, -1), (2, 1)]
    one.split = two.split = 2
    assert largest(memory(one, two, 2).forward, 20) == 104


def test_growth():
    made = growth([10, 40, 30, 7], [20, 80, 120, 7], batch=2)
    assert made.tolist() == [[0, 5, 0], [0, 20, 0], [0, 0, 7.5], [7, 0, 0]]
    assert growth([100 + 3 * 5], [100 + 6 * 5], 3).tolist() == [[100, 5, 0]]


def test_nothing_trained_has_no_backward_pass():
    cost = counted(lambda: nn.Linear(5, 5).requires_grad_(False), lambda model, n: model(torch.zeros(n, 5)))
    assert cost.trained == cost.gradients == cost.backward == 0 and cost.frozen == 30


def test_an_unknown_precision_is_named():
    with pytest.raises(UserError, match="precision transformer-engine is not modelled"):
        counted(lambda: nn.Linear(1, 1), lambda model, n: model(torch.zeros(n, 1)), precision="transformer-engine")


def test_seconds_are_those_of_the_slowest_part():
    cost = counted(
        lambda: nn.Linear(4096, 4096, bias=False), lambda model, n: model(torch.zeros(n, 4096)).sum(), batch=4096
    )
    card = gpu("h100")
    seconds = cost.seconds(card, 0.5)
    assert seconds["arithmetic"] == pytest.approx(2 * 2 * 4096**3 / (67e12 * 0.5))
    assert cost.seconds(card, 1.0)["arithmetic"] == pytest.approx(seconds["arithmetic"] / 2)
    small = counted(lambda: nn.Linear(1, 1), lambda model, n: model(torch.zeros(n, 1)).sum()).seconds(card, 0.5)
    assert small["arithmetic"] == small["memory"] == 0 and small["launch"] > 0


def test_a_network_that_stands_in_two_places_is_one():
    def build():
        net = nn.Linear(8, 8)
        return nn.ModuleDict({"teacher": nn.ModuleList([net]), "student": nn.ModuleList([net])})

    cost = counted(build, lambda model, n: model["teacher"][0](model["student"][0](torch.zeros(n, 8))).sum(), 4)
    assert cost.trained == 72 and cost.forward == 2 * 2 * 4 * 64


def test_what_keeps_a_list_of_its_weights_is_counted_too():
    cost = counted(lambda: nn.LSTM(8, 16, batch_first=True), lambda model, n: model(torch.zeros(n, 5, 8))[0].sum(), 4)
    assert cost.trained == 4 * 16 * (8 + 16 + 2) and largest(cost.memory.forward, 4) >= 4 * 5 * 16 * 4
