"""Bytes that training takes, counted: on any device, and on the meta device for networks of the real size.

training_bytes(net, states=2)                      # weights, gradients and AdamW's two moments
saved_bytes(lambda: net(x).pow(2).mean(), net)     # what the backward pass needs besides
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def training_bytes(networks: Iterable[nn.Module], states: int = 2) -> int:
    """Weights and buffers, gradients of what is trained, and the optimiser's states of the same size.

    Args:
        networks: all that are in memory; what two of them share counts once.
        states: numbers that the optimiser keeps for each one trained; AdamW two.
    """
    held: dict[int, Tensor] = {}
    for net in networks:
        held |= {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    return sum(tensor.nbytes * (1 + (1 + states) * tensor.requires_grad) for tensor in held.values())


def saved_bytes(step: Callable[[], object], net: nn.Module) -> int:
    """Bytes that autograd keeps from a forward pass for the backward pass, without the weights of `net` themselves.

    What several operations keep counts once, and a view as the whole that it holds. Which attention kernel runs, and so
    what it keeps, is the device's choice.
    """
    storage = torch.Tensor.untyped_storage
    own = {storage(tensor)._cdata for tensor in (*net.parameters(), *net.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # held until the end: an address may not be used twice

    def keep(tensor: Tensor) -> Tensor:
        kept[storage(tensor)._cdata] = storage(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(found.nbytes() for address, found in kept.items() if address not in own)
