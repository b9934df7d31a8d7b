"""CLIP's loss over processes. A file of its own: each of the processes imports it, and little beside."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.losses.contrastive import clip_loss
from tests.distributed import assert_data_parallel


def clip_step(module: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Two exits' losses of the gathered batch, weighted."""
    deep, shallow = module
    losses = [clip_loss(*(F.normalize(net(x), dim=-1) for x in (first, second)), 10.0) for net in (deep, shallow)]
    return losses[0] + 0.25 * losses[1]


def test_two_processes_contrast_the_batch_of_both():
    torch.manual_seed(0)
    module = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 8)])
    assert_data_parallel(clip_step, module, torch.randn(6, 6), torch.randn(6, 6))
