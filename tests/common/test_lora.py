"""Low-rank updates: nothing at first, what is trained, switched off and on, merged, kept in a file."""

import pytest
import torch
from torch import nn

from common.models.lora import Lora, add_lora, merged, trained_part, updated_layers, without_lora


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.other, self.conv = nn.Linear(6, 8), nn.Linear(8, 8), nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(self.other(self.first(x).relu())[:, None, None].expand(-1, 1, 4, -1))


def updated(lora=None):
    torch.manual_seed(0)
    return add_lora(Net().eval(), lora or Lora(2, 6.0), ("first", "conv"))


def disturb(net):
    with torch.no_grad():
        for parameter in trained_part(net).parameters():
            parameter.normal_()


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def test_updates_change_nothing_at_first_and_are_all_that_is_trained():
    torch.manual_seed(0)
    plain = Net().eval()
    net = updated()
    assert torch.equal(net(X), plain(X))
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {f"{layer}.lora_{part}.default.weight" for layer in ("first", "conv") for part in "AB"}
    assert len(updated_layers(net)) == 2
    net(X).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert gradients.keys() == trained  # those of A are zero while B is
    assert all(value.abs().sum().gt(0) == ("lora_B" in name) for name, value in gradients.items())


def test_an_update_is_a_scaled_product():
    net = updated()
    before = net.first(X)
    disturb(net)
    a, b = (net.first.get_submodule(f"lora_{part}.default").weight for part in "AB")
    torch.testing.assert_close(net.first(X), before + 6.0 / 2 * X @ a.T @ b.T)
    plain = updated(Lora(2))
    disturb(plain)
    a, b = (plain.first.get_submodule(f"lora_{part}.default").weight for part in "AB")
    torch.testing.assert_close(plain.first(X), before + X @ a.T @ b.T)  # no alpha, no scale


def test_without_its_updates_the_network_is_the_old_one_bit_for_bit():
    net = updated()
    before = net(X)
    disturb(net)
    changed, asked = net(X), [p.requires_grad for p in net.parameters()]
    with without_lora(net):
        assert torch.equal(net(X), before)
    assert torch.equal(net(X), changed) and not torch.equal(changed, before)
    assert [p.requires_grad for p in net.parameters()] == asked
    net.requires_grad_(False)
    with pytest.raises(RuntimeError, match="stop"), without_lora(net):
        raise RuntimeError("stop")
    assert torch.equal(net(X), changed) and not any(p.requires_grad for p in net.parameters())


def test_merged_it_is_of_its_own_class_and_computes_the_same():
    net = updated()
    disturb(net)
    expected = net(X)
    found = merged(net)
    torch.testing.assert_close(found(X), expected)
    assert found.state_dict().keys() == Net().state_dict().keys() and not updated_layers(found)
    assert type(found.first) is nn.Linear


def test_the_trained_part_is_what_a_file_keeps():
    net, other = updated(), updated()
    disturb(net)
    trained_part(other).load_state_dict(trained_part(net).state_dict())
    assert torch.equal(other(X), net(X)) and len(trained_part(net).state_dict()) == 4


def test_targets_of_its_own_and_the_spread_of_a_gaussian_start():
    net = updated(Lora(64, targets=("other",), gaussian=True))
    assert [name for name, p in net.named_parameters() if p.requires_grad] == [
        "other.lora_A.default.weight",
        "other.lora_B.default.weight",
    ]
    assert net.other.lora_A["default"].weight.std().item() == pytest.approx(1 / 64, rel=0.15)
    assert net.other.lora_B["default"].weight.eq(0).all()
    with pytest.raises(ValueError, match="nothing"):
        add_lora(Net(), Lora(2), ("nothing",))
