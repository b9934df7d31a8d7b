"""Networks of which a width takes the first channels: one set of weights for all widths.

A plain network becomes slimmable by a table that says for each of its layers which width slims its input and which its
output. Weights are sliced when they are used, so the network at full width is the plain network to the bit, and what
lies outside a slice has no gradient.
"""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

Side = str | None
"""Name of the width that slims one side of a layer; None keeps all of its channels."""
Sides = Mapping[str, tuple[Side, Side]]
"""Input and output of each layer, by the layer's name."""
Widths = Mapping[str, float]
"""Ratios in (0, 1], by name."""


def make_divisible(value: float, divisor: int) -> int:
    """Channels for a number of them: a multiple of `divisor` near it, never more than 10 % below.

    As slimmable networks have it, with 1 as the least: below half of the divisor that gives 1, or 1 + divisor.
    """
    rounded = max(1, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def kept(full: int, ratio: float, divisor: int) -> int:
    """Channels of `full` that a ratio leaves."""
    return full if ratio == 1 else min(full, make_divisible(full * ratio, divisor))


class Slimmable(nn.Module):
    """A plain network with its table of sides.

    Batch norms have no running statistics (`batch_norm`): those of one width are wrong for every other. They are
    gathered where a width is cut out to be used (`cut`, `calibrate`).

    Args:
        net: of convolutions without groups, linear layers and batch norms; layers without parameters are left alone.
        sides: of every layer that is slimmed on either side.
        divisor: of numbers of channels.
    """

    def __init__(self, net: nn.Module, sides: Sides, divisor: int):
        super().__init__()
        self.net, self.sides, self.divisor = net, dict(sides), divisor

    def forward(self, widths: Widths, *inputs: Tensor) -> Tensor:
        """The plain network's forward pass with sliced weights."""
        return functional_call(self.net, self.sliced(widths), inputs)

    def sliced(self, widths: Widths) -> dict[str, Tensor]:
        """Views of the parameters that a width uses."""
        found = {}
        for layer, (inner, outer) in self.sides.items():
            for name, value in self.net.get_submodule(layer).named_parameters(recurse=False):
                out = kept(len(value), 1 if outer is None else widths[outer], self.divisor)
                view = value[:out]
                if value.dim() > 1:
                    view = view[:, : kept(value.shape[1], 1 if inner is None else widths[inner], self.divisor)]
                found[f"{layer}.{name}"] = view
        return found

    def cut(self, widths: Widths) -> nn.Module:
        """A plain network of this width alone, with weights of its own; its batch norms want `calibrate`."""
        own = copy.deepcopy(self.net)
        values = self.sliced(widths)
        for name, layer in list(own.named_modules()):
            for part, _ in list(layer.named_parameters(recurse=False)):
                if f"{name}.{part}" in values:
                    setattr(layer, part, nn.Parameter(values[f"{name}.{part}"].detach().clone()))
            if isinstance(layer, nn.Conv2d):
                layer.out_channels, layer.in_channels = layer.weight.shape[:2]
            elif isinstance(layer, nn.Linear):
                layer.out_features, layer.in_features = layer.weight.shape
            elif isinstance(layer, nn.BatchNorm2d):
                norm = nn.BatchNorm2d(len(layer.weight), layer.eps, momentum=None, device=layer.weight.device)
                norm.weight, norm.bias = layer.weight, layer.bias
                own.set_submodule(name, norm)
        return own.requires_grad_(False).eval()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm without running statistics."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


@torch.no_grad()
def calibrate(net: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> nn.Module:
    """Give the batch norms of a cut network the statistics of some training batches, all weighing the same."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.train()
    for inputs in batches:
        net(*inputs)
    return net.eval()
