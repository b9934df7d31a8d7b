"""What `make speed PAPER=quantized_distillation` measures: ImageNet networks of the paper's timing, and CIFAR-10's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from common.workload import Network, Speed
from projects.quantized_distillation.model import ConvNet, Sizes
from projects.quantized_distillation.recipe import SMALLER

CONFIGS = Path(__file__).parents[1] / "configs/paper"


class WideResNet(ResNet):
    """torchvision's ResNet with `width` times the channels of every block, as the official resnet_kfilters."""

    def __init__(self, layers: list[int], width: int):
        self.width = width
        super().__init__(BasicBlock, layers)
        self.fc = nn.Linear(512 * width, 1000)

    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
        if planes == 64:  # the first block's: the stem is as wide
            self.inplanes = 64 * self.width
            self.conv1 = nn.Conv2d(3, self.inplanes, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.inplanes)
        return super()._make_layer(block, planes * self.width, *args, **kwargs)


def speed() -> Speed:
    """The paper's seconds are of a whole test set on four GPUs of an unknown type: they stand in the page's table. Of
    these networks sizes and operations are compared, so the plain ones do."""
    imagenet, cifar, deep, teacher = (1, 3, 224, 224), (1, 3, 32, 32), "ResNet-34", "CIFAR-10 teacher"
    layers = {deep: ([3, 4, 6, 3], 1), "ResNet-18": ([2, 2, 2, 2], 1), "ResNet-18 twice as wide": ([2, 2, 2, 2], 2)}
    sizes = {teacher: _sizes("teacher"), "CIFAR-10 student": _sizes("student")}
    for name, given in SMALLER.items():
        own = {key.removeprefix("model.net."): value for key, value in given.items()}
        sizes[f"CIFAR-10 student{name.replace('_', ' ')}"] = sizes["CIFAR-10 student"] | own
    resnets = {name: _built(partial(WideResNet, *given), imagenet) for name, given in layers.items()}
    convnets = {name: _built(partial(_convnet, given), cifar) for name, given in sizes.items()}
    return Speed(
        networks=(
            *(Network(name, build, "" if name == deep else deep, giant=True) for name, build in resnets.items()),
            *(Network(name, build, "" if name == teacher else teacher, giant=True) for name, build in convnets.items()),
        )
    )


def _convnet(sizes: dict[str, Any]) -> nn.Module:
    return ConvNet(Sizes(**sizes))


def _sizes(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["model"]["net"]


def _built(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (make().eval(), (torch.zeros(shape),))
