"""Trans-Encoder's labels, losses, pooling, schedules and measures: golden parity, closed forms, gradients."""

import math

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from common.data.pairs import Pair
from projects.trans_encoder.data import agreement
from projects.trans_encoder.distill import mutual
from projects.trans_encoder.evaluate import copied, lexical_overlap
from projects.trans_encoder.model import cosine, cross_entropy, pool, squared_error
from projects.trans_encoder.student import linear_adamw
from tests.golden import golden_file

GOLDEN = golden_file("trans_encoder")
close = {"atol": 1e-5, "rtol": 1e-5}
exact = {"atol": 1e-9, "rtol": 1e-9}


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a golden case; skips where there is no file."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        tensors = {k.split("/")[1]: file.get_tensor(k) for k in file.keys() if k.startswith(f"{case}/")}  # noqa: SIM118
        metadata = {k.split("/")[1]: v for k, v in file.metadata().items() if k.startswith(f"{case}/")}
    return tensors, metadata


def test_golden_bi_labels():
    x, _ = golden("bi_labels")
    own = [cosine(x["in.u1"], x["in.v1"]), cosine(x["in.u2"], x["in.v2"])]  # two models, of different widths
    torch.testing.assert_close(own[0], x["out.self1"], **close)
    torch.testing.assert_close(own[1], x["out.self2"], **close)
    torch.testing.assert_close(mutual(own), x["out.mutual"], **close)


def test_golden_cross_bce():
    x, _ = golden("cross_bce")
    assert (x["in.labels"] < 0).any()  # cosines are used as they are
    logits = x["in.logits"].requires_grad_()
    loss = cross_entropy(logits, x["in.labels"])
    loss.backward()
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(logits.grad, x["out.grad_logits"], **close)
    torch.testing.assert_close(logits.sigmoid(), x["out.pred"], **close)


def test_golden_bi_mse():
    x, _ = golden("bi_mse")
    u = x["in.u"].requires_grad_()
    loss = squared_error(cosine(u, x["in.v"]), x["in.labels"])
    loss.backward()
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(u.grad, x["out.grad_u"], **close)


def test_golden_pooling():
    x, _ = golden("pooling")
    for pooling in ("cls", "mean"):
        torch.testing.assert_close(pool(x["in.hidden"], x["in.mask"], pooling), x[f"out.{pooling}"], **close)


def test_golden_schedule():
    x, settings = golden("schedule")
    steps = int(settings["total_steps"])
    for kind, share in (("cross", 0.1), ("bi", 0.0)):
        warmup = math.ceil(share * steps)
        assert warmup == int(settings[f"warmup_{kind}"])
        factors = torch.tensor(schedule(warmup, steps), dtype=torch.float64)
        torch.testing.assert_close(factors, x[f"out.{kind}"], **exact)


def test_golden_evaluation():
    x, _ = golden("eval")
    u, _ = golden("bi_labels")
    first, second = cosine(u["in.u1"], u["in.v1"]), cosine(u["in.u2"], u["in.v2"])
    gold, classes = x["in.gold"], x["in.gold_binary"]
    assert agreement(False)(first.double(), gold).item() == pytest.approx(x["out.bi1_spearman"].item(), abs=1e-6)
    both = mutual([first, second]).double()
    assert agreement(False)(both, gold).item() == pytest.approx(x["out.bi_ensemble_spearman"].item(), abs=1e-6)
    crosses = mutual([x["in.p1"], x["in.p2"]]).double()
    assert agreement(False)(crosses, gold).item() == pytest.approx(x["out.cross_ensemble_spearman"].item(), abs=1e-6)
    assert agreement(True)(first, classes).item() == pytest.approx(x["out.bi1_auc"].item(), abs=1e-6)
    assert agreement(True)(x["in.p1"], classes).item() == pytest.approx(x["out.cross1_auc"].item(), abs=1e-6)


def schedule(warmup: int, steps: int) -> list[float]:
    """The learning rate's factor at each step."""
    found = linear_adamw(nn.Linear(2, 2), 1.0, 0.01, warmup, steps)
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0
    return factors


def test_schedules_peak_after_the_warm_up_and_end_at_zero():
    factors = schedule(3, 20)
    assert factors[0] == 0 and factors[3] == 1 == max(factors)
    assert schedule(0, 20)[0] == 1


def test_biases_and_layer_norms_do_not_decay():
    net = nn.ModuleDict({"dense": nn.Linear(2, 3), "LayerNorm": nn.LayerNorm(3)})
    decayed, plain = linear_adamw(net, 1.0, 0.01, 0, 10)["optimizer"].param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 2)] and decayed["weight_decay"] == 0.01
    assert len(plain["params"]) == 3 and plain["weight_decay"] == 0


def test_cross_entropy_of_soft_labels():
    torch.testing.assert_close(cross_entropy(torch.zeros(1), torch.tensor([0.5])), torch.tensor(math.log(2)))
    labels = torch.rand(7).double()
    logits = labels.logit().requires_grad_()
    at_labels = cross_entropy(logits, labels)
    torch.testing.assert_close(torch.autograd.grad(at_labels, logits)[0], torch.zeros(7).double())  # its minimum
    logits = torch.randn(7).double().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), logits)
    torch.testing.assert_close(gradient, (logits.sigmoid() - labels).detach() / 7)


def test_a_negative_label_pushes_down_without_end():
    losses = []
    for value in (-1.0, -10.0, -100.0):
        logit = torch.tensor([value], requires_grad=True)
        loss = cross_entropy(logit, torch.tensor([-0.2]))
        loss.backward()
        assert logit.grad > 0
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2] < -10


def test_squared_error_depends_on_directions_only():
    torch.manual_seed(0)
    u, v, labels = torch.randn(6, 4), torch.randn(6, 4), torch.rand(6)
    loss = squared_error(cosine(u, v), labels)
    torch.testing.assert_close(squared_error(cosine(3 * u, 0.1 * v), labels), loss)
    torch.testing.assert_close(squared_error(cosine(v, u), labels), loss)
    torch.testing.assert_close(loss, ((F.normalize(u) * F.normalize(v)).sum(1) - labels).square().mean())


def test_padding_counts_for_nothing():
    torch.manual_seed(0)
    hidden, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other = hidden.clone()
    other[0, 3:] = 100.0
    for pooling in ("cls", "mean"):
        torch.testing.assert_close(pool(hidden, mask, pooling), pool(other, mask, pooling))
    torch.testing.assert_close(pool(hidden, mask, "mean")[0], hidden[0, :3].mean(0))


def test_mutual_labels_of_two_equal_models_are_their_own():
    scores = torch.randn(5)
    torch.testing.assert_close(mutual([scores, scores]), mutual([scores]))


def test_rank_correlation_does_not_see_a_monotone_map():
    torch.manual_seed(0)
    logits, gold = torch.randn(50), torch.rand(50)
    assert agreement(False)(logits, gold) == pytest.approx(agreement(False)(logits.sigmoid(), gold).item(), abs=1e-6)
    assert agreement(False)(gold * 5, gold) == pytest.approx(1)


def test_what_the_measures_say_of_known_answers():
    """Perfect, reversed, random: the ceiling, the floor, and what must not be seen."""
    torch.manual_seed(0)
    gold, noise = torch.rand(2000), torch.randn(2000)
    classes = (gold > 0.6).float()
    ranks, area = agreement(False), agreement(True)
    assert ranks(gold, gold) == pytest.approx(1) and ranks(-gold, gold) == pytest.approx(-1)
    assert abs(ranks(noise, gold)) < 0.06
    assert area(gold, classes) == 1 and area(-gold, classes) == 0
    assert area(torch.full((2000,), 0.3), classes) == 0.5 and area(noise.clamp(-1, 1), classes) == pytest.approx(
        0.5, abs=0.04
    )
    assert copied([noise, gold], [noise.exp(), -gold]) == pytest.approx(0)  # one set copied, one reversed
    pairs = [Pair("A dog, runs", "runs a dog!"), Pair("a dog runs", "two cats sleep"), Pair("a b", "a c")]
    torch.testing.assert_close(lexical_overlap(pairs), torch.tensor([1.0, 0.0, 1 / 3]))


def test_the_area_under_the_curve_does_not_see_how_scores_come_in_batches():
    torch.manual_seed(0)
    cosines = torch.cat([torch.rand(500), torch.rand(500) * 2 - 1, torch.ones(3) * 1.0000001])  # rounded up
    classes = (torch.rand(1003) < (cosines + 1) / 2).float()
    at_once, in_batches = agreement(True), agreement(True)
    at_once.update(cosines, classes)
    for scores, gold in zip(cosines.split(500), classes.split(500), strict=True):  # the first has none below zero
        in_batches.update(scores, gold)
    assert in_batches.compute() == pytest.approx(at_once.compute().item())
    above = (cosines[:, None] > cosines).float() + 0.5 * (cosines[:, None] == cosines)
    matches = classes.bool()
    assert at_once.compute() == pytest.approx(above[matches][:, ~matches].mean().item(), abs=1e-4)


def test_a_pair_can_be_swapped():
    assert Pair("a", "b", 0.5).swapped == Pair("b", "a", 0.5)
