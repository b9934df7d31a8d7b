"""The paper's CIFAR-10 networks: convolutions, then linear layers, at any width."""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError

CLASSES = 10
"""Of the world of shapes, and of CIFAR-10."""


@dataclass(frozen=True)
class Sizes:
    """Of a ConvNet.

    Attributes:
        filters: of each convolution.
        kernel: their side, pixels.
        units: of each hidden linear layer.
        pool: layers (counted from 0) whose output is pooled.
        dropout: probability by layer; whole channels of convolutions.
        side: of the pictures S, pixels.
    """

    filters: list[int]
    kernel: int
    units: list[int]
    pool: list[int]
    dropout: dict[int, float] = field(default_factory=dict)
    side: int = 32

    def __post_init__(self) -> None:
        layers = len(self.filters) + len(self.units)
        if not self.filters or self.kernel % 2 == 0 or any(not 0 <= k < len(self.filters) for k in self.pool):
            raise UserError("a net needs convolutions of an odd kernel, and pools after some of them, counted from 0")
        if unknown := [k for k in self.dropout if not 0 <= k < layers]:
            raise UserError(f"dropout after layer {unknown[0]}: there are {layers}, counted from 0")
        if not self.reduced:
            raise UserError(f"pools at {self.pool} leave nothing of {self.side} pixels")

    @property
    def reduced(self) -> int:
        """Side of what the first linear layer sees."""
        return self.side // 2 ** len(set(self.pool))


class ConvNet(nn.Module):
    """Convolution or linear layer, ReLU, batch norm, pooling, dropout; and a ReLU on the logits, as released.

    Follows the official ConvolForwardNet: Glorot uniform weights, odd kernels that keep the size, pooling by 2.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.pool, self.dropout = frozenset(sizes.pool), sizes.dropout
        filters, units, kernel = sizes.filters, sizes.units, sizes.kernel
        widths = [3, *filters]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b in pairwise(widths))
        widths = [filters[-1] * sizes.reduced**2, *units]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList([*map(nn.BatchNorm2d, filters), *map(nn.BatchNorm1d, units)])
        self.out = nn.Linear(widths[-1], CLASSES)
        for layer in (*self.convs, *self.linears, self.out):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> logits [B, CLASSES], none below 0."""
        x = (x - 0.5) / 0.5
        for k, (layer, norm) in enumerate(zip((*self.convs, *self.linears), self.norms, strict=True)):
            if k == len(self.convs):
                x = x.flatten(1)
            x = norm(F.relu(layer(x)))
            if k in self.pool:
                x = F.max_pool2d(x, 2)
            if k in self.dropout:
                drop = F.dropout2d if k < len(self.convs) else F.dropout
                x = drop(x, self.dropout[k], self.training)
        return F.relu(self.out(x.flatten(1)))


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each is right, float [B]. Of equal logits the first counts: a ReLU may leave all of them at 0."""
    return (logits.argmax(1) == labels).to(torch.float32)
