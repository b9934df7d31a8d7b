"""What an exit costs: parameters to keep, operations for one input. Counted on shapes, without values."""

from typing import NamedTuple

import torch

from common.training.flops import flop_counter
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes

PAPER_TOKENS = 49156
PAPER_EXITS = (4, 9, 18, 27, 36)


class Cost(NamedTuple):
    """Parameters of the trunk up to the exit (embeddings included) and of its projection; FLOP, a multiply-add two."""

    params: int
    flops: int


def exit_cost(sizes: TrunkSizes, tokens: int, layer: int, length: int) -> Cost:
    """Cost of exit `layer` of a trunk for an input of `length` tokens. The look-up of embeddings is no operation."""
    with torch.device("meta"):
        encoder = MultiExitEncoder(sizes, tokens, [layer]).eval()
        with torch.no_grad(), flop_counter() as counter:
            encoder(torch.zeros(1, length, dtype=torch.long))
    return Cost(sum(p.numel() for p in encoder.parameters()), counter.get_total_flops())


def saved(sizes: TrunkSizes, tokens: int, exits: tuple[int, ...], length: int) -> float:
    """Share of the deepest exit's operations that the first one saves."""
    return 1 - exit_cost(sizes, tokens, exits[0], length).flops / exit_cost(sizes, tokens, exits[-1], length).flops
