"""Gathering with gradients, and the helper that checks data parallel losses."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.training.distributed import first_row, gather, mean_over_processes
from tests.distributed import assert_data_parallel


def contrastive(module: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """InfoNCE of the local rows against the rows of all processes."""
    x, y = F.normalize(module(a), dim=-1), F.normalize(module(b), dim=-1)
    targets = torch.arange(len(x)) + first_row(len(x))
    return (F.cross_entropy(x @ gather(y).T, targets) + F.cross_entropy(y @ gather(x).T, targets)) / 2


def batch_variance(module: nn.Module, a: Tensor) -> Tensor:
    return gather(module(a)).var(0).sum()


def local_variance(module: nn.Module, a: Tensor) -> Tensor:
    return module(a).var(0).sum()


@pytest.fixture
def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))


def test_contrastive_loss_on_two_processes_equals_one(encoder):
    assert_data_parallel(contrastive, encoder, torch.randn(8, 6), torch.randn(8, 6))


def test_batch_statistics_on_two_processes_equal_one(encoder):
    assert_data_parallel(batch_variance, encoder, torch.randn(8, 6))


def test_a_loss_that_forgets_the_other_process_is_found(encoder):
    with pytest.raises(AssertionError, match="loss"):
        assert_data_parallel(local_variance, encoder, torch.randn(8, 6))


def test_one_process_gathers_itself():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x and first_row(3) == 0


def mean_of_known(module: nn.Module, a: Tensor, known: Tensor) -> Tensor:
    return (module(a).square().sum(1) * known).sum() / mean_over_processes(known.sum())


def test_a_mean_over_tokens_on_two_processes_equals_one(encoder):
    assert_data_parallel(mean_of_known, encoder, torch.randn(8, 6), torch.tensor([1, 1, 1, 0, 1, 0, 0, 0]))
