"""Contrastive losses: closed forms, and on several processes what one computes."""

import math

import torch
from torch import nn

from common.losses.contrastive import info_nce
from tests.distributed import assert_data_parallel


def test_info_nce_closed_forms():
    same = torch.ones(4, 3)
    torch.testing.assert_close(info_nce(same, same, 0.05), torch.tensor(math.log(4)))  # nothing tells the keys apart
    apart = torch.eye(4)
    expected = math.log(1 + 3 * math.exp(-1 / 0.5))
    torch.testing.assert_close(info_nce(apart, 7 * apart, 0.5), torch.tensor(expected))
    assert info_nce(apart, apart.roll(1, 0), 0.05) > 19


def contrastive_step(module: nn.Module, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return info_nce(module(first), module(second), 0.1)


def test_contrast_on_two_processes_equals_one():
    torch.manual_seed(0)
    assert_data_parallel(contrastive_step, nn.Linear(5, 3), torch.randn(8, 5), torch.randn(8, 5))
