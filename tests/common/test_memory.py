"""Bytes that training takes: closed forms, what counts once, and the meta device."""

import copy

import pytest
import torch
from torch import nn

from common.models.lora import Lora, add_lora
from common.training.memory import saved_bytes, training_bytes


@pytest.fixture(params=["cpu", "meta"])
def device(request):
    return request.param


def test_weights_gradients_and_states(device):
    net = nn.Sequential(nn.Linear(10, 5, device=device), nn.BatchNorm1d(5, device=device))
    numbers, buffers = 10 * 5 + 5 + 10, 5 * 4 * 2 + 8
    assert training_bytes([net]) == 4 * 4 * numbers + buffers
    assert training_bytes([net], states=0) == 2 * 4 * numbers + buffers
    frozen = copy.deepcopy(net).requires_grad_(False)
    assert training_bytes([net, frozen]) == 5 * 4 * numbers + 2 * buffers
    assert training_bytes([net, net]) == training_bytes([net])  # once


def test_updates_of_low_rank_take_little(device):
    net = add_lora(nn.Sequential(nn.Linear(100, 100, device=device)), Lora(2), ("0",))
    assert training_bytes([net]) == 4 * (100 * 100 + 100) + 4 * 4 * 2 * 2 * 100


def test_what_the_backward_pass_needs(device):
    """Of a linear layer its input, of a ReLU its output; weights are none of it, nor what is not trained."""
    first, last = nn.Linear(8, 16, bias=False, device=device), nn.Linear(16, 4, bias=False, device=device)
    net = nn.Sequential(first, nn.ReLU(), last)
    x = torch.zeros(3, 8, device=device)
    assert saved_bytes(lambda: net(x).sum(), net) == 4 * 3 * (8 + 16)
    first.requires_grad_(False)
    assert saved_bytes(lambda: net(x).sum(), net) == 4 * 3 * 16
    net.requires_grad_(False)
    assert saved_bytes(lambda: net(x).sum(), net) == 0


def test_views_of_one_tensor_count_once_and_whole(device):
    x = torch.zeros(4, 6, device=device, requires_grad=True)
    net = nn.Linear(1, 1, device=device)

    def step():
        y = x * 2
        return (y[:, :3] * y[:, 3:]).sum()

    assert saved_bytes(step, net) == 4 * 4 * 6


def test_nothing_is_kept_without_gradients(device):
    net = nn.Linear(8, 8, device=device)

    def step():
        with torch.no_grad():
            net(torch.zeros(2, 8, device=device))

    assert saved_bytes(step, net) == 0
