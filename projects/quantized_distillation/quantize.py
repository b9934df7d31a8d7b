"""Weights on few points: scaling by buckets, uniform and learned points, and how points are shared among tensors.

    quantized = uniform(weights, levels=4, bucket=256)            # nearest of 4 equally spaced values in every bucket
    scaled = scale(weights, 256)
    points = quantile_points(scaled, 4)
    quantized = scaled.restore(points[nearest(scaled.values, points)])

Follows Polino et al. 2018 (section 2) as the official code has it: `levels` is the number of points, s. The paper's own
formula has s + 1 of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError

FLAT = 1e-10
"""A bucket whose values are closer than this is one value: it is not scaled."""


@dataclass(frozen=True)
class Scaled:
    """A tensor v in buckets of k successive values, (v - beta) / alpha in [0, 1].

    Attributes:
        values: [N, k]; the last bucket is filled up with copies of the last value.
        alpha: max - min of each bucket, [N, 1].
        beta: min of each bucket, [N, 1].
        shape: of the tensor.
    """

    values: Tensor
    alpha: Tensor
    beta: Tensor
    shape: torch.Size

    def restore(self, values: Tensor) -> Tensor:
        """Values in [0, 1], [N, k] -> alpha * values + beta, in the tensor's shape."""
        return self.cut(self.alpha * values + self.beta)

    def cut(self, values: Tensor) -> Tensor:
        """[N, k] -> the tensor's shape, without what fills the last bucket."""
        return values.flatten()[: self.shape.numel()].view(self.shape)


def scale(weights: Tensor, bucket: int | None) -> Scaled:
    """Linear scaling of each bucket to [0, 1].

    Args:
        weights: any shape, not empty.
        bucket: values in a bucket, k; None, or more than there are, makes one of all.
    """
    flat = weights.flatten()
    size = len(flat) if bucket is None else min(bucket, len(flat))
    flat = torch.cat([flat, flat[-1:].expand(-len(flat) % size)])
    rows = flat.view(-1, size)
    beta = rows.amin(1, keepdim=True)
    alpha = rows.amax(1, keepdim=True) - beta
    alpha = torch.where(alpha < FLAT, torch.ones_like(alpha), alpha)
    return Scaled((rows - beta) / alpha, alpha, beta, weights.shape)


def uniform_codes(scaled: Scaled, levels: int, draws: Tensor | None = None) -> Tensor:
    """Numbers 0 to levels - 1 of equally spaced points, [N, k]: the nearest (of two the even one), or one of both.

    Args:
        draws: uniform in [0, 1], [N, k]: rounded up where a draw is at most the fractional part, so that the mean over
            draws is the value itself (stochastic rounding).
    """
    places = scaled.values * (levels - 1)
    if draws is None:
        return places.round().long()
    below = places.floor()
    return (below + (draws <= places - below)).long().clamp(max=levels - 1)


def uniform(weights: Tensor, levels: int, bucket: int | None, draws: Tensor | None = None) -> Tensor:
    """Q(v): the nearest of `levels` equally spaced values between the bucket's least and largest."""
    scaled = scale(weights, bucket)
    return scaled.restore(uniform_codes(scaled, levels, draws).to(scaled.values) / (levels - 1))


def nearest(values: Tensor, points: Tensor) -> Tensor:
    """Number of the nearest of sorted points [s], for each value; halfway between two it is the larger."""
    return torch.bucketize(values, (points[1:] + points[:-1]) / 2, right=True)


def learned(scaled: Scaled, points: Tensor) -> Tensor:
    """Q(v) = alpha p_j + beta, p_j the nearest point, whose gradient is the sum of alpha dL/dQ over its weights."""
    return scaled.restore(points[nearest(scaled.values, points.detach())])


def quantile_points(scaled: Scaled, count: int) -> Tensor:
    """Where points begin: at equally spaced quantiles of the scaled values, least and largest among them, [count]."""
    values = scaled.cut(scaled.values).flatten().double().cpu().numpy()
    return torch.from_numpy(np.percentile(values, np.linspace(0, 100, count))).to(scaled.values)


def allocate(norms: Sequence[float], count: int) -> list[int]:
    """Points for each tensor, `count` on average: half of them for all, the others in proportion to gradient norms.

    What rounding leaves over is taken from the tensor with the most points, or given to the one with the fewest.
    """
    least, total = count // 2, sum(norms)
    rest = len(norms) * (count - least)
    found = [least + round(norm / total * rest if total else count - least) for norm in norms]
    surplus = sum(found) - count * len(norms)
    place = found.index(max(found) if surplus > 0 else min(found))
    found[place] = max(1, found[place] - surplus)
    return found


@dataclass(frozen=True)
class Quantizer:
    """How a network's tensors are quantized.

    Attributes:
        bits: 2^bits points in a tensor; learned ones on average.
        bucket: values that are scaled together; None takes a tensor as one bucket.
        whole: names of parameters that stay as they are ("convs.0.weight").
    """

    bits: int
    bucket: int | None = 256
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise UserError(f"quantizer.bits is {self.bits}: give 1 to 8")
        if self.bucket is not None and self.bucket < 1:
            raise UserError(f"quantizer.bucket is {self.bucket}: give at least 1, or null for a bucket of all")

    @property
    def levels(self) -> int:
        return int(2**self.bits)

    def chosen(self, net: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that are quantized, biases and batch norms among them.

        Raises:
            UserError: `whole` names one that the network has not.
        """
        named = dict(net.named_parameters())
        if unknown := [name for name in self.whole if name not in named]:
            raise UserError(f"quantizer.whole: the network has no {unknown[0]}; it has {', '.join(named)}")
        return {name: value for name, value in named.items() if name not in self.whole}

    def codes(self, weights: Tensor, points: Tensor | None = None) -> Tensor:
        """Number of each weight's point, in the tensor's shape: of the learned points, or else of the uniform ones."""
        scaled = scale(weights.detach(), self.bucket)
        found = uniform_codes(scaled, self.levels) if points is None else nearest(scaled.values, points.detach())
        return scaled.cut(found)

    def projected(self, net: nn.Module) -> dict[str, Tensor]:
        """Q(w) by name, to the last bit, whose gradient goes to w as it is (straight through)."""
        chosen = self.chosen(net).items()
        return {name: uniform(w.detach(), self.levels, self.bucket) + (w - w.detach()) for name, w in chosen}


def replace_parameters(net: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Put values in the place of parameters, for good."""
    named = dict(net.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            named[name].copy_(value)
