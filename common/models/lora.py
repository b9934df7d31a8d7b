"""Low-rank updates (LoRA, Hu et al. 2022) of any network's layers: y = W x + (alpha / rank) B A x, on peft.

add_lora(net, Lora(rank=4), ("to_q", "to_k", "to_v", "to_out.0"))    # A and B are all that is trained
with without_lora(net):
    teacher = net(x)                                                 # the network as it was
student = net(x)
save_file(trained_part(net).state_dict(), "weights.safetensors")
merged(net)                                                          # the same function, of its own class again
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


@dataclass
class Lora:
    """Low-rank updates.

    Attributes:
        rank: of an update.
        alpha: the update is scaled by alpha / rank; None for alpha = rank, which is no scale.
        dropout: share of a layer's inputs that an update does not see in training.
        targets: endings of the names of the layers that are updated; None for those that the recipe names.
        gaussian: A ~ N(0, 1 / rank^2) at first, as diffusers' first adapters of attention had it; else Kaiming-uniform,
            as peft has it. B is zero either way.
    """

    rank: int = 64
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    gaussian: bool = False


def add_lora(net: Net, lora: Lora, targets: Sequence[str], exclude: str | None = None) -> Net:
    """Put updates beside a network's layers, in place, and freeze all else: the same function at first.

    Args:
        targets: endings of layers' names, unless `lora` names some.
        exclude: a pattern of names of layers that are left out.

    Raises:
        ValueError: no layer is called so.
    """
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets if lora.targets is None else lora.targets),
        exclude_modules=exclude,
        init_lora_weights="gaussian" if lora.gaussian else True,
    )
    inject_adapter_in_model(settings, net.requires_grad_(False))
    return net


def updated_layers(net: nn.Module) -> list[BaseTunerLayer]:
    """The layers beside which updates stand."""
    return [module for module in net.modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def without_lora(net: nn.Module) -> Iterator[None]:
    """The network without its updates: bit for bit what it was before them."""
    layers = updated_layers(net)
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    trained = [parameter.requires_grad for parameter in parameters]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, was in zip(parameters, trained, strict=True):  # switching them changes that
            parameter.requires_grad_(was)


def merged(net: Net) -> Net:
    """Add the updates to the weights, in place: the same function at the cost and of the class that it had before."""
    for name, module in list(net.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            net.set_submodule(name, module.get_base_layer())
    return net


def trained_part(module: nn.Module) -> nn.Module:
    """A module that holds nothing but the trained parameters of `module`, by the same names: what a file keeps."""
    root = nn.Module()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            *path, leaf = name.split(".")
            node = root
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node.get_submodule(part)
            node.register_parameter(leaf, parameter)
    return root
