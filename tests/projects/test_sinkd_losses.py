"""SinKD's loss: golden parity, closed forms, limits of epsilon, invariances, gradients, data parallelism."""

import pytest
import torch
from safetensors import safe_open
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from common.losses.distillation import annealed_temperature, reverse_kl, soft_cross_entropy
from common.training.distributed import gather
from projects.sinkd import sinkhorn
from projects.sinkd.sinkhorn import normalise, pairwise_l1, sinkhorn_loss, sinkhorn_plan, transport_cost
from tests.distributed import assert_data_parallel
from tests.golden import golden_file

GOLDEN = golden_file("sinkd")
close = {"atol": 1e-5, "rtol": 1e-5}


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within 1e-5 of the largest value: a gradient of 1e-5 is compared as strictly as one of 1."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Tensors and hyperparameters of a golden case; skips where there is no file."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        tensors = {k.split("/")[1]: file.get_tensor(k) for k in file.keys() if k.startswith(f"{case}/")}  # noqa: SIM118
        settings = {k.split("/hp.")[1]: float(v) for k, v in file.metadata().items() if k.startswith(f"{case}/hp.")}
    return tensors, settings


def logits(x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return x["in.student_logits"].requires_grad_(), x["in.teacher_logits"]


def test_golden_sinkhorn_of_logits():
    x, hp = golden("sinkhorn_full")
    student, teacher = logits(x)
    loss = sinkhorn_loss(student, teacher, hp["temperature"], hp["epsilon"], int(hp["n_iters"]))
    loss.backward()
    assert_near(loss, x["out.loss"] / hp["scale"])
    assert_near(student.grad, x["out.grad_student_logits"] / hp["scale"])


def test_golden_sinkhorn_of_probabilities():
    x, hp = golden("sinkhorn_raw")
    p, q = x["in.student_probs"].requires_grad_(), x["in.teacher_probs"]
    cost = pairwise_l1(p, q)
    assert_near(cost, x["out.cost"])
    assert_near(sinkhorn_plan(cost, hp["epsilon"], int(hp["n_iters"])), x["out.plan"])
    loss = transport_cost(p, q, hp["epsilon"], int(hp["n_iters"]))
    loss.backward()
    assert_near(loss, x["out.loss"])
    assert_near(p.grad, x["out.grad_student_probs"])


def test_golden_normalisation():
    x, _ = golden("sinkhorn_normalise")
    plans = {name: plan for name, plan in x.items() if name.startswith("out.plan_")}
    assert plans
    for name, plan in plans.items():
        rounds = int(name.rsplit("_", 1)[1])
        assert_near(normalise(x["in.kernel"], rounds), plan)


def test_golden_soft_labels():
    x, hp = golden("kd_ce")
    student, teacher = logits(x)
    loss = soft_cross_entropy(student, teacher, hp["temperature"])
    loss.backward()
    assert_near(loss, x["out.loss"])
    assert_near(student.grad, x["out.grad_student_logits"])


def test_golden_annealed_soft_labels():
    x, hp = golden("kd_anneal")
    epochs = int(hp["total_epochs"])
    losses = [
        soft_cross_entropy(*logits(x), annealed_temperature(hp["temperature"], epoch, epochs))
        for epoch in range(epochs)
    ]
    assert_near(torch.stack(losses), x["out.loss_by_epoch"])


def test_golden_reverse_kl():
    x, hp = golden("rkl")
    assert_near(reverse_kl(*logits(x), hp["temperature"]), x["out.loss"] / hp["scale"])


def test_golden_sample_wise():
    x, hp = golden("sinkhorn_samplewise")
    assert_near(sinkhorn_loss(*logits(x), hp["temperature"], group=1), x["out.loss"] / hp["scale"])


def test_columns_sum_to_one_and_rows_converge():
    torch.manual_seed(0)
    kernel = torch.rand(3, 6, 6) + 0.01
    for rounds in (1, 5, 50):
        torch.testing.assert_close(normalise(kernel, rounds).sum(-2), torch.ones(3, 6), **close)
    errors = [(normalise(kernel, rounds).sum(-1) - 1).abs().max() for rounds in (1, 5, 50)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
    assert (normalise(kernel, 5) >= 0).all()


def test_plan_has_unit_mass_per_sample_for_any_epsilon():
    torch.manual_seed(0)
    cost = pairwise_l1(torch.randn(2, 7, 4).softmax(-1), torch.randn(2, 7, 4).softmax(-1))
    for epsilon in (1.0, 0.1, 0.01, 0.001):
        torch.testing.assert_close(sinkhorn_plan(cost, epsilon, 20).sum((-2, -1)), torch.full((2,), 7.0), **close)


def test_log_domain_equals_probability_domain_where_both_are_stable(monkeypatch):
    torch.manual_seed(0)
    p, q = torch.randn(2, 8, 5).double().softmax(-1)
    p.requires_grad_()
    cost = pairwise_l1(p, q)
    weights = torch.tensor([1.0, 0.5, 0, 2, 1, 1, 0, 1]).double()
    for epsilon, given in ((0.05, None), (0.1, None), (1.0, None), (0.1, weights)):
        monkeypatch.setattr(sinkhorn, "UNDERFLOW", 80.0)
        plain = sinkhorn_plan(cost, epsilon, 20, weights=given)
        monkeypatch.setattr(sinkhorn, "UNDERFLOW", 0.0)
        logs = sinkhorn_plan(cost, epsilon, 20, weights=given)
        torch.testing.assert_close(plain, logs)
        a, b = (torch.autograd.grad((plan * cost).sum(), p, retain_graph=True)[0] for plan in (plain, logs))
        torch.testing.assert_close(a, b)


def plain_plan(kernel: torch.Tensor, rounds: int) -> torch.Tensor:
    """The rounds on the whole matrix, as the paper writes them."""
    for _ in range(rounds):
        kernel = kernel / kernel.sum(-1, keepdim=True)
        kernel = kernel / kernel.sum(-2, keepdim=True)
    return kernel


def test_row_and_column_factors_are_the_rounds_on_the_matrix():
    torch.manual_seed(0)
    p, q = torch.randn(2, 16, 3).double().softmax(-1)
    cost = pairwise_l1(p.requires_grad_(), q)
    plans = sinkhorn_plan(cost, 0.1, 20), plain_plan(torch.exp(-cost / 0.1), 20)
    assert_near(*plans)
    assert_near(*(torch.autograd.grad((plan * cost).sum(), p, retain_graph=True)[0] for plan in plans))


def test_the_plan_is_float32_under_autocast():
    torch.manual_seed(0)
    p, q = torch.randn(2, 8, 3).softmax(-1)
    expected = transport_cost(p, q)
    with torch.autocast("cpu", torch.bfloat16):
        assert_near(transport_cost(p, q), expected)


def two_classes(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Student and teacher, sure of some samples and unsure of others, [B, 2] probabilities each."""
    torch.manual_seed(0)
    return (2 * torch.randn(2, batch, 2).double()).softmax(-1)


def test_twenty_rounds_of_two_classes_are_no_transport_and_a_tolerance_makes_them_one():
    p, q = two_classes(64)
    cost = pairwise_l1(p, q)
    least = cost[linear_sum_assignment(cost.numpy())].sum()
    short, plan = sinkhorn_plan(cost, 0.1, 20), sinkhorn_plan(cost, 0.1, 20_000, tolerance=1e-6)
    assert (short.sum(-1) - 1).abs().max() > 0.1
    assert (plan.sum(-1) - 1).abs().max() <= 1e-6
    torch.testing.assert_close(plan.sum(-2), torch.ones(64).double())
    assert (short * cost).sum() < least <= (plan * cost).sum() + 1e-6


@pytest.mark.parametrize("epsilon", [0.1, 0.02])
def test_rounds_end_with_the_tolerance_or_with_their_number(epsilon):
    p, q = two_classes(8)
    cost = pairwise_l1(p, q)
    plans = [sinkhorn_plan(cost, epsilon, rounds) for rounds in range(1, 31)]
    errors = [(plan.sum(-1) - 1).abs().max().item() for plan in plans]
    assert errors[9] > 1.01 * errors[10]
    tolerance = (errors[9] + errors[10]) / 2  # first met by the eleventh round
    torch.testing.assert_close(sinkhorn_plan(cost, epsilon, 30, tolerance), plans[10])
    torch.testing.assert_close(sinkhorn_plan(cost, epsilon, 2, tolerance), plans[1])


@pytest.mark.parametrize("epsilon", [0.1, 0.01])
def test_masked_samples_do_not_count(epsilon):
    torch.manual_seed(0)
    s, t = torch.randn(2, 9, 4)
    s.requires_grad_()
    mask = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 1])
    loss = sinkhorn_loss(s, t, epsilon=epsilon, weights=mask)
    torch.testing.assert_close(loss, sinkhorn_loss(s[mask == 1], t[mask == 1], epsilon=epsilon))
    (gradient,) = torch.autograd.grad(loss, s)
    assert gradient.isfinite().all() and (gradient[mask == 0] == 0).all() and (gradient[mask == 1] != 0).any()
    torch.testing.assert_close(
        sinkhorn_loss(s, t, epsilon=epsilon, weights=torch.ones(9)), sinkhorn_loss(s, t, epsilon=epsilon)
    )


def test_a_sample_that_counts_twice_is_there_twice():
    torch.manual_seed(0)
    s, t = torch.randn(2, 5, 4).double()
    twice = torch.tensor([0, 1, 2, 3, 4, 4])
    weights = torch.tensor([1.0, 1, 1, 1, 2]).double()
    torch.testing.assert_close(sinkhorn_loss(s, t, weights=weights), sinkhorn_loss(s[twice], t[twice]))


@pytest.mark.parametrize(
    ("student", "teacher", "weights", "said"),
    [
        ((4, 3), (6, 3), None, r"student logits \[4, 3\] with teacher logits \[6, 3\]"),
        ((4, 3), (4, 2), None, r"student logits \[4, 3\] with teacher logits \[4, 2\]"),
        ((2, 5, 3), (2, 5, 3), None, "two batches of the same samples"),
        ((0, 3), (0, 3), None, "two batches of the same samples"),
        ((4, 3), (4, 3), [1, 1, 1], r"weights of shape \[3\] for a batch of 4"),
        ((4, 3), (4, 3), [0, 0, 0, 0], "not all 0"),
        ((4, 3), (4, 3), [1, 1, -1, 1], "not negative"),
        ((4, 3), (4, 3), [1, 1, float("nan"), 1], "finite"),
    ],
)
def test_batches_that_do_not_fit_are_refused(student, teacher, weights, said):
    given = None if weights is None else torch.tensor(weights)
    with pytest.raises(UserError, match=said):
        sinkhorn_loss(torch.zeros(student), torch.zeros(teacher), weights=given)


def test_one_sample_costs_its_l1_distance():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.2, 0.7]])
    torch.testing.assert_close(transport_cost(p, q), torch.tensor(1.2))


def test_groups_are_batches_of_their_own():
    torch.manual_seed(0)
    s, t = torch.randn(2, 6, 4)
    halves = sinkhorn_loss(s[:3], t[:3]) + sinkhorn_loss(s[3:], t[3:])
    torch.testing.assert_close(sinkhorn_loss(s, t, group=3), halves)
    pairs = ((s / 2).softmax(-1) - (t / 2).softmax(-1)).abs().sum()
    torch.testing.assert_close(sinkhorn_loss(s, t, group=1), pairs)
    with pytest.raises(UserError, match="batch of 6 does not divide into groups of 4"):
        sinkhorn_loss(s, t, group=4)


def test_free_pairing():
    torch.manual_seed(0)
    s, t = torch.randn(2, 8, 4).double()
    order = torch.randperm(8)
    loss = sinkhorn_loss(s, t, iterations=500)
    torch.testing.assert_close(sinkhorn_loss(s[order], t[order], iterations=500), loss)
    torch.testing.assert_close(sinkhorn_loss(s, t[order], iterations=500), loss, atol=1e-6, rtol=1e-6)
    apart = 20 * torch.eye(4)
    assert sinkhorn_loss(apart.roll(1, 0), apart) < 1e-6  # every prediction wrong, the set of predictions right


def test_equal_but_crowded_predictions_cost_something():
    torch.manual_seed(0)
    s = 0.1 * torch.randn(8, 4)
    assert sinkhorn_loss(s, s) > 0.1  # the entropic bias: rows nearer than epsilon blur


def test_epsilon_to_zero_is_the_optimal_assignment():
    torch.manual_seed(0)
    p, q = torch.randn(2, 6, 4).double().softmax(-1)
    cost = pairwise_l1(p, q)
    best = cost[linear_sum_assignment(cost.numpy())].sum()
    torch.testing.assert_close(transport_cost(p, q, epsilon=1e-3, iterations=5000), best, atol=2e-3, rtol=0)


def test_epsilon_to_infinity_is_the_mean_cost():
    torch.manual_seed(0)
    p, q = torch.randn(2, 6, 4).softmax(-1)
    torch.testing.assert_close(transport_cost(p, q, epsilon=1e5), pairwise_l1(p, q).sum() / 6, **close)


def test_gradient_through_the_iterations():
    torch.manual_seed(0)
    p, q = torch.randn(2, 4, 3).double().softmax(-1)
    assert torch.autograd.gradcheck(lambda x: transport_cost(x, q), p.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: transport_cost(x, q, epsilon=0.02), p)  # on logarithms
    plan = sinkhorn_plan(pairwise_l1(p, q), 0.1, 20).detach()
    (fixed,) = torch.autograd.grad((plan * pairwise_l1(p, q)).sum(), p)
    (whole,) = torch.autograd.grad(transport_cost(p, q), p)
    assert not torch.allclose(fixed, whole, atol=1e-3)


@pytest.mark.parametrize("epsilon", [0.1, 0.001])
def test_gradient_of_identical_and_of_saturated_predictions_is_finite(epsilon):
    for s in (torch.zeros(4, 3), 100 * torch.eye(4, 3)):
        s.requires_grad_()
        sinkhorn_loss(s, s.detach(), epsilon=epsilon).backward()
        assert s.grad.isfinite().all()


def test_a_saturated_student_gets_no_gradient_where_soft_labels_give_one():
    t, found = torch.tensor([[0.0, 10.0, 0.0]]), {}
    for name, loss in (("sinkhorn", sinkhorn_loss), ("soft", lambda s, t: 2 * soft_cross_entropy(s, t, 2.0))):
        for a in (2.0, 6.0, 10.0, 20.0):
            s = torch.tensor([[a, 0.0, 0.0]], requires_grad=True)
            found[name, a] = torch.autograd.grad(loss(s, t), s)[0].abs().max().item()
    assert found["sinkhorn", 20.0] < 1e-3 * found["sinkhorn", 2.0]
    assert found["soft", 20.0] > found["soft", 2.0]


def sinkhorn_step(module: nn.Module, x: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(module(x), teacher) + sinkhorn_loss(gather(module(x)), gather(teacher))


def test_two_processes_equal_one():
    torch.manual_seed(0)
    assert_data_parallel(sinkhorn_step, nn.Linear(5, 3), torch.randn(8, 5), torch.randn(8, 3))
