"""Cosine distance: closed forms, what it does not see, gradients."""

import pytest
import torch
from torch.nn import functional as F

from common.losses.features import cosine_distance


def test_closed_forms():
    a = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    b = torch.tensor([[0.0, 2.0], [4.0, 3.0]])
    torch.testing.assert_close(cosine_distance(a, b, 1), torch.tensor([1.0, 1 - 24 / 25]))
    maps = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert cosine_distance(maps, maps).shape == (2, 3, 4)
    torch.testing.assert_close(cosine_distance(maps, -maps), torch.full((2, 3, 4), 2.0))
    torch.testing.assert_close(cosine_distance(torch.zeros_like(maps), maps), torch.ones(2, 3, 4))


@pytest.mark.parametrize("dim", [1, -1])
def test_it_is_half_the_squared_distance_of_unit_vectors_at_any_scale(dim):
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 3, 6), torch.randn(2, 4, 3, 6)
    expected = 0.5 * (F.normalize(a, dim=dim) - F.normalize(b, dim=dim)).square().sum(dim)
    for scale in (1.0, 1e-3, 1e4):
        torch.testing.assert_close(cosine_distance(scale * a, b, dim), expected)


def test_gradients_are_finite_at_zero_and_reach_both_sides():
    a, b = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.ones(1, 3, 2, 2, requires_grad=True)
    cosine_distance(a, b).sum().backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()
