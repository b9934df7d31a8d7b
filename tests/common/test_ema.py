"""Moving averages: the closed form, what moves, what a checkpoint keeps."""

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.training.ema import Ema


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_closed_form(decay: float) -> None:
    """After n updates towards constant weights: decay^n of the start, the rest theirs."""
    net = nn.Linear(3, 2)
    start = net.weight.detach().clone()
    average = Ema(net, decay)
    with torch.no_grad():
        net.weight.fill_(2.0)
    for _ in range(5):
        average.update(net)
    torch.testing.assert_close(average.model.weight, decay**5 * start + (1 - decay**5) * net.weight.detach())
    assert bool((net.weight == 2.0).all())


def test_it_learns_nothing_itself() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    whole = nn.ModuleDict({"student": net, "teacher": Ema(net, 0.9)})
    assert {name.split(".")[0] for name, p in whole.named_parameters() if p.requires_grad} == {"student"}
    whole.train()
    assert net.training and not any(part.training for part in whole["teacher"].modules())
    x = torch.ones(2, 3)
    torch.testing.assert_close(whole["teacher"](x), net[0](x))


def test_buffers_are_those_of_the_network() -> None:
    net = nn.BatchNorm1d(2)
    average = Ema(net, 0.99)
    net(torch.tensor([[1.0, 4.0], [3.0, 8.0]]))
    average.update(net)
    torch.testing.assert_close(average.model.running_mean, net.running_mean)
    assert int(average.model.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_a_checkpoint_holds_it() -> None:
    net = nn.Linear(2, 2)
    average = Ema(net, 0.5)
    nn.init.zeros_(net.weight)
    average.update(net)
    other = Ema(nn.Linear(2, 2), 0.5)
    other.load_state_dict(average.state_dict())
    torch.testing.assert_close(other.model.weight, average.model.weight)
    assert "model.weight" in average.state_dict()


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decay_has_a_range(decay: float) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        Ema(nn.Linear(2, 2), decay)
