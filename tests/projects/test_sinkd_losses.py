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
from projects.sinkd.sinkhorn import log_normalise, normalise, pairwise_l1, sinkhorn_loss, sinkhorn_plan, transport_cost
from tests.distributed import assert_data_parallel
from tests.golden import golden_file

GOLDEN = golden_file("sinkd")
close = {"atol": 1e-5, "rtol": 1e-5}


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
    loss = hp["scale"] * sinkhorn_loss(student, teacher, hp["temperature"], hp["epsilon"], int(hp["n_iters"]))
    loss.backward()
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(student.grad, x["out.grad_student_logits"], **close)


def test_golden_sinkhorn_of_probabilities():
    x, hp = golden("sinkhorn_raw")
    p, q = x["in.student_probs"].requires_grad_(), x["in.teacher_probs"]
    cost = pairwise_l1(p, q)
    torch.testing.assert_close(cost, x["out.cost"], **close)
    torch.testing.assert_close(sinkhorn_plan(cost, hp["epsilon"], int(hp["n_iters"])), x["out.plan"], **close)
    loss = transport_cost(p, q, hp["epsilon"], int(hp["n_iters"]))
    loss.backward()
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(p.grad, x["out.grad_student_probs"], **close)


def test_golden_normalisation():
    x, _ = golden("sinkhorn_normalise")
    plans = {name: plan for name, plan in x.items() if name.startswith("out.plan_")}
    assert plans
    for name, plan in plans.items():
        rounds = int(name.rsplit("_", 1)[1])
        torch.testing.assert_close(normalise(x["in.kernel"], rounds), plan, **close)
        torch.testing.assert_close(log_normalise(x["in.kernel"].log(), rounds).exp(), plan, **close)


def test_golden_soft_labels():
    x, hp = golden("kd_ce")
    student, teacher = logits(x)
    loss = soft_cross_entropy(student, teacher, hp["temperature"])
    loss.backward()
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(student.grad, x["out.grad_student_logits"], **close)


def test_golden_annealed_soft_labels():
    x, hp = golden("kd_anneal")
    epochs = int(hp["total_epochs"])
    losses = [
        soft_cross_entropy(*logits(x), annealed_temperature(hp["temperature"], epoch, epochs))
        for epoch in range(epochs)
    ]
    torch.testing.assert_close(torch.stack(losses), x["out.loss_by_epoch"], **close)


def test_golden_reverse_kl():
    x, hp = golden("rkl")
    torch.testing.assert_close(hp["scale"] * reverse_kl(*logits(x), hp["temperature"]), x["out.loss"], **close)


def test_golden_sample_wise():
    x, hp = golden("sinkhorn_samplewise")
    loss = hp["scale"] * sinkhorn_loss(*logits(x), hp["temperature"], group=1)
    torch.testing.assert_close(loss, x["out.loss"], **close)


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


def test_log_domain_equals_probability_domain_where_both_are_stable():
    torch.manual_seed(0)
    p, q = torch.randn(2, 8, 5).double().softmax(-1)
    p.requires_grad_()
    cost = pairwise_l1(p, q)
    for epsilon in (0.05, 0.1, 1.0):
        plain = normalise(torch.exp(-cost / epsilon), 20)
        logs = log_normalise(-cost / epsilon, 20).exp()
        torch.testing.assert_close(plain, logs)
        a, b = (torch.autograd.grad((plan * cost).sum(), p, retain_graph=True)[0] for plan in (plain, logs))
        torch.testing.assert_close(a, b)


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
