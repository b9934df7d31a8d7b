"""Deep linear networks: gradients, what the flow conserves, theory followed, resumed as it was, fixed points."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.cli import main, one_seed
from common.errors import UserError
from projects.jepa_linear.data import Drawn, Group, Pairs, Static
from projects.jepa_linear.evaluate import Evaluation, Trajectory, measured, read
from projects.jepa_linear.flow import GradientFlow
from projects.jepa_linear.model import DeepLinear, amplitudes, half_square, product, unbalanced
from projects.jepa_linear.theory import OBJECTIVES, fixed_point, learning_time, trajectory
from projects.jepa_linear.train import Training

FEATURES = Drawn(3, (0.5, 1), (0.75, 1.0))


def losses(net, objective, x, y, stop=True):
    target = net.encode(y) if objective == "jepa" else y
    return half_square(net.predict(net.encode(x)), target.detach() if stop else target)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_the_matrix_formulas(objective):
    """dV = -E W^T and dW^a = -(W^L .. W^(a+1))^T V^T E (W^(a-1) .. W^1)^T, with E = target's covariance - V W S_xx."""
    torch.manual_seed(0)
    net, pairs = DeepLinear(3, 3, 0.2, objective, "unaligned"), Pairs(FEATURES, seed=1)
    x, y = pairs.parts["train"]
    xx, yx = x.T @ x / len(x), y.T @ x / len(x)
    losses(net, objective, x, y).backward()
    one, two, three = (layer.detach() for layer in net.layers)
    whole, v = three @ two @ one, net.predictor.detach()
    error = (whole @ yx if objective == "jepa" else yx) - v @ whole @ xx
    torch.testing.assert_close(net.predictor.grad, -error @ whole.T)
    torch.testing.assert_close(net.layers[1].grad, -(three.T @ v.T @ error @ one.T))
    torch.testing.assert_close(net.layers[0].grad, -((three @ two).T @ v.T @ error))


def test_nothing_flows_through_the_target():
    net, pairs = DeepLinear(3, 2, 0.2, "jepa"), Pairs(FEATURES)
    x, y = pairs.parts["train"]
    grads = []
    for stop in (True, False):
        net.zero_grad()
        losses(net, "jepa", x, y, stop).backward()
        grads.append(net.layers[0].grad.clone())
    net.zero_grad()
    encoded = net.encode(y).detach().clone()
    half_square(net.predict(net.encode(x)), encoded).backward()
    torch.testing.assert_close(grads[0], net.layers[0].grad)
    assert not torch.allclose(grads[1], grads[0])


def follow(net, objective, x, y, until):
    flow, found = GradientFlow(net.parameters(), until), []
    state = flow.param_groups[0]

    def closure():
        flow.zero_grad()
        loss = losses(net, objective, x, y)
        loss.backward()
        return loss

    while state["time"] < until:
        flow.step(closure)
        found.append(state["time"])
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_flow_follows_the_theory_to_the_fixed_point_and_keeps_the_balance(objective):
    torch.manual_seed(0)
    pairs, depth = Pairs(FEATURES, seed=2), 3
    features, (x, y) = pairs.features, pairs.parts["train"]
    net = DeepLinear(3, depth, 0.05, objective)
    half = float(learning_time(objective, features.lam, features.rho, depth, 0.05).max())
    follow(net, objective, x, y, half)
    said = trajectory(objective, features.lam, features.rho, depth, 0.05, np.array([0.0, half]))[-1]
    lengths, mixed = amplitudes(net, x, pairs.basis)
    assert lengths.detach().numpy() == pytest.approx(said, rel=1e-4)
    assert mixed < 1e-5 and unbalanced(net) < 1e-8
    follow(net, objective, x, y, 12 * half)
    whole = product([*net.layers]).detach()
    ends = fixed_point(objective, features.rho, depth)
    assert amplitudes(net, x, pairs.basis)[0].detach().numpy() == pytest.approx(ends, rel=1e-3)
    xx, yx = x.T @ x / len(x), y.T @ x / len(x)
    wanted = whole @ yx if objective == "jepa" else yx
    torch.testing.assert_close((net.predictor @ whole @ xx).detach(), wanted, atol=2e-3, rtol=0)


def test_plain_gradient_descent_nears_the_flow():
    torch.manual_seed(0)
    pairs = Pairs(FEATURES)
    x, y = pairs.parts["train"]
    net = DeepLinear(3, 2, 0.15, "jepa")
    descent = torch.optim.SGD(net.parameters(), 0.02)
    for _ in range(500):
        descent.zero_grad()
        losses(net, "jepa", x, y).backward()
        descent.step()
    said = trajectory("jepa", pairs.features.lam, pairs.features.rho, 2, 0.15, np.array([0.0, 10.0]))[-1]
    assert amplitudes(net, x, pairs.basis)[0].detach().numpy() == pytest.approx(said, rel=0.02)


def test_turning_inputs_and_targets_changes_no_time():
    found = []
    for seed in (1, 2):
        torch.manual_seed(7)
        pairs = Pairs(FEATURES, seed=seed)
        net = DeepLinear(3, 2, 0.1, "jepa")
        follow(net, "jepa", *pairs.parts["train"], until=15.0)
        found.append(amplitudes(net, pairs.parts["test"][0], pairs.basis)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=0)


def run(folder, *words):
    config = [
        "fit", "--threads=1", "--trainer.accelerator=cpu", "--run_dir", str(folder), "--model.eps=0.05",
        "--data.source=projects.jepa_linear.data.Drawn", "--data.source.count=3", "--data.source.lam=[0.5,1.0]",
        "--data.source.rho=[0.75,1.0]", "--model.depth=2", "--trainer.max_steps=500", "--seed_everything=5",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train"])
        main(Training, Pairs, [*config, *words], links=one_seed)


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")


def test_a_stage_trains_to_the_end_and_its_trajectory_is_the_theorys(tmp_path):
    run(tmp_path, "--model.objective=jepa")
    trained = read(str(tmp_path / "trajectory.safetensors"))
    assert trained.theory and trained.time[0] == 0 and trained.time[-1] == pytest.approx(trained.until)
    found = measured(trained)
    assert found["deviation"] < 1e-4 and found["time_error"] < 1e-3 and found["order"] == 1
    assert found["learned"] == found["val_learned"] == 1 and found["limit_error"] < 0.01 and found["growth"] > 50
    assert json.loads((tmp_path / "done.json").read_text())["metrics"]


@pytest.mark.parametrize(
    "words", [["--model.objective=mae"], ["--model.objective=jepa", "--model.target=average", "--model.lr=0.2"]]
)
def test_a_resumed_stage_ends_with_the_same_weights_and_trajectory(words, tmp_path):
    run(tmp_path / "whole", *words, "--trainer.max_steps=20")
    run(tmp_path / "parts", *words, "--trainer.max_steps=5", "--checkpoint_every=1")
    (tmp_path / "parts/done.json").unlink()
    run(tmp_path / "parts", *words, "--trainer.max_steps=20")
    for file in ("weights.safetensors", "trajectory.safetensors"):
        one, two = (load_file(tmp_path / name / file) for name in ("whole", "parts"))
        assert set(one) == set(two) and not [
            k for k in one if not torch.equal(one[k].nan_to_num(7), two[k].nan_to_num(7))
        ]


def test_a_stage_that_was_lost_after_its_last_step_takes_no_other(tmp_path):
    words = ["--model.objective=mae", "--model.lr=0.2", "--checkpoint_every=10"]
    run(tmp_path, *words)
    before = [load_file(tmp_path / f"{name}.safetensors") for name in ("weights", "trajectory")]
    for name in ("done.json", "weights.safetensors", "trajectory.safetensors"):
        (tmp_path / name).unlink()
    run(tmp_path, *words)
    after = [load_file(tmp_path / f"{name}.safetensors") for name in ("weights", "trajectory")]
    for one, two in zip(before, after, strict=True):
        assert not [k for k in one if not torch.equal(one[k].nan_to_num(7), two[k].nan_to_num(7))]


def test_a_moving_average_follows_and_gets_no_gradients(tmp_path):
    run(tmp_path, "--model.objective=jepa", "--model.target=average", "--model.lr=0.5", "--model.momentum=0.5")
    weights = load_file(tmp_path / "weights.safetensors")
    gap = (weights["average.layers.0"] - weights["net.layers.0"]).abs().max()
    assert 0 < gap < 0.01 and not read(str(tmp_path / "trajectory.safetensors")).theory


def test_without_a_stop_gradient_the_representation_shrinks(tmp_path):
    run(tmp_path, "--model.objective=jepa", "--model.target=gradient")
    assert measured(read(str(tmp_path / "trajectory.safetensors")))["growth"] < 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"depth": 0}, "model.depth is 0: it has to be at least 1"),
        ({"eps": 1.5}, "between 0 and 1"),
        ({"lr": -1.0}, "model.lr is -1.0"),
        ({"objective": "mae", "target": "average"}, "MAE encodes no target"),
        ({"target": "average"}, "give a model.lr"),
        ({"relu": True, "depth": 1}, "give more depth"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        Training(**{"objective": "jepa", "depth": 2, "eps": 0.1} | settings)


def test_starts_above_a_fixed_point_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "--model.objective=jepa", "--model.depth=8", "--model.eps=0.5")
    assert "begins above the fixed point of some features" in capsys.readouterr().err


def test_drawn_features_have_no_samples_and_ranges_ascend():
    with pytest.raises(UserError, match="Drawn has none"):
        Pairs(FEATURES, samples=4)
    with pytest.raises(UserError, match="lam from 1 to 0.5"):
        Drawn(3, (1, 0.5), (0.5, 1))


def noisy_run(amplitude, progress):
    features = Static(Group(1, 0.75, 0.05), Group(1, 0.9, 0.4)).features()
    time, last = np.arange(5.0), np.array(progress)
    return Trajectory(
        "jepa", 2, 0.1, 4.0, False, features, time, np.array(amplitude).T, np.stack([0 * last, last]), last, time, time
    )


def test_an_order_is_that_of_features_that_have_grown_and_are_learned():
    early, late = [0.1, 0.6, 0.9, 1, 1], [0.1, 0.1, 0.2, 0.9, 1]
    found = measured(noisy_run([early, late], [0.9, 0.9]))
    assert found["lead"] > 0.5 and found["noise_made"] == 0.1
    for run in (noisy_run([early, late], [0.9, 0.7]), noisy_run([early, [0.6, 0, 3, 2, 1]], [0.9, 0.9])):
        assert {"lead", "noise_made"}.isdisjoint(measured(run)) and "purity" in measured(run)


def test_a_feature_that_never_grows_shows_at_whatever_depth_it_is(monkeypatch):
    logged, rows = {}, [{"time_error": 0.1, "order": 0.9}, {"time_error": float("nan"), "order": 1.0}]
    evaluation = Evaluation()
    monkeypatch.setattr(evaluation, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr("projects.jepa_linear.evaluate.measured", lambda run: rows[run])
    monkeypatch.setattr("projects.jepa_linear.harness.pictures.of_runs", lambda runs: {})
    evaluation._trainer = SimpleNamespace(datamodule=SimpleNamespace(runs=[0, 1]))
    evaluation.test_step(None, 0)
    assert np.isnan(logged["test/time_error"]) and logged["test/order"] == 0.9


def test_what_is_no_trajectory_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    for name in ("a.safetensors", "absent.safetensors"):
        with pytest.raises(UserError, match="is no trajectory"):
            read(str(tmp_path / name))
