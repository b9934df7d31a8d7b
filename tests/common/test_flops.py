"""Operations where torch's own counter is silent or wrong: depthwise convolutions and fused attention on the CPU."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.training.flops import flop_counter


def test_gradients_of_a_grouped_convolution_cost_what_its_forward_pass_costs():
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    with flop_counter() as counter:
        layer(torch.ones(2, 8, 16, 16, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 2 * 16 * 16 * 8 * 9)


def test_a_strided_transposed_convolution():
    layer = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False)
    with flop_counter() as counter:
        layer(torch.ones(1, 4, 5, 5, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 5 * 5 * 4 * 6 * 2 * 2)


@pytest.mark.parametrize("train", [False, True])
def test_fused_attention(train):
    queries = torch.rand(2, 3, 10, 8, requires_grad=train)
    with flop_counter() as counter:
        out = F.scaled_dot_product_attention(queries, queries, queries)
        if train:
            out.sum().backward()
    product = 2 * 2 * 3 * 10 * 10 * 8
    assert counter.get_total_flops() == (2 + 5 * train) * product  # backward computes the scores anew
