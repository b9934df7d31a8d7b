"""The super-network: a shared ResNet encoder and a decoder for each task, all of them slimmable."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from common.errors import UserError
from common.training.flops import flop_counter
from projects.controllable_mtl.slim import Sides, Slimmable, Widths, batch_norm
from projects.controllable_mtl.tasks import Task

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


@dataclass(frozen=True)
class Configuration:
    """Width ratios: one for each stage of the encoder, one for each task's decoder."""

    encoder: tuple[float, ...]
    decoders: tuple[float, ...]


@dataclass(frozen=True)
class Sizes:
    """Of a SuperNet at full width.

    Attributes:
        planes: channels of each stage's blocks.
        blocks: how many there are in each stage.
        strides: of each stage's first block.
        block: torchvision's BasicBlock or Bottleneck.
        stem: "imagenet" (7 x 7, stride 2, pooled) or "small" (3 x 3, stride 2) or "cifar" (3 x 3, stride 1).
        features: channels C that every decoder gets, whatever the encoder's width is.
        hidden: channels of each decoder's two convolutions.
        widths: the ratios W that there are, the smallest first and 1 the last.
        divisor: of numbers of channels.
    """

    planes: list[int]
    blocks: list[int]
    strides: list[int]
    features: int
    hidden: int
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["imagenet", "small", "cifar"] = "imagenet"
    widths: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    divisor: int = 8

    def __post_init__(self) -> None:
        if not self.planes or not len(self.planes) == len(self.blocks) == len(self.strides):
            raise UserError("model.net: planes, blocks and strides need as many numbers as there are stages")
        if min(*self.planes, *self.blocks, *self.strides, self.features, self.hidden, self.divisor) < 1:
            raise UserError("model.net: sizes have to be at least 1")
        if sorted({*self.widths, 1.0}) != list(self.widths) or self.widths[0] <= 0:
            raise UserError(f"model.net.widths are {self.widths}: ratios above 0 in ascending order are needed, 1 last")


class Encoder(nn.Module):
    """torchvision's ResNet under its own names of parameters, and a neck in place of the classifier.

    The neck's output has all C channels at every width: decoders and the distillation compare equal shapes.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        width, block = sizes.planes[0], BLOCKS[sizes.block]
        kernel, stride = {"imagenet": (7, 2), "small": (3, 2), "cifar": (3, 1)}[sizes.stem]
        self.conv1 = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = batch_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if sizes.stem == "imagenet" else nn.Identity()
        self.sides: dict[str, tuple[str | None, str | None]] = {"conv1": (None, "0"), "bn1": ("0", "0")}
        before, key = width, "0"
        for number, (planes, count, step) in enumerate(zip(sizes.planes, sizes.blocks, sizes.strides, strict=True)):
            after = planes * block.expansion
            shortcut = None
            if number or step != 1 or before != after:  # another width than before, even where the sizes are the same
                shortcut = nn.Sequential(nn.Conv2d(before, after, 1, step, bias=False), batch_norm(after))
            first = block(before, planes, step, shortcut, norm_layer=batch_norm)
            rest = [block(after, planes, norm_layer=batch_norm) for _ in range(count - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(first, *rest))
            for name, layer in self.get_submodule(f"layer{number + 1}").named_modules():
                if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                    enters = name in ("0.conv1", "0.downsample.0")
                    self.sides[f"layer{number + 1}.{name}"] = (key if enters else str(number), str(number))
            before, key = after, str(number)
        self.neck = nn.Conv2d(before, sizes.features, 1, bias=False)
        self.neck_norm = batch_norm(sizes.features)
        self.sides |= {"neck": (key, None)}
        self.stages = len(sizes.planes)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, h, w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(self.stages):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return self.relu(self.neck_norm(self.neck(x)))


class Decoder(nn.Module):
    """Two 3 x 3 convolutions and a prediction layer, whose output is never slimmed.

    Args:
        pooled: average over positions before the prediction: classes of whole pictures.
    """

    sides: Sides = {
        "conv1": (None, "d"), "bn1": ("d", "d"), "conv2": ("d", "d"), "bn2": ("d", "d"), "out": ("d", None),
    }  # fmt: skip

    def __init__(self, features: int, hidden: int, outputs: int, pooled: bool):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(features, hidden, 3, padding=1, bias=False), batch_norm(hidden)
        self.conv2, self.bn2 = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False), batch_norm(hidden)
        self.out = nn.Conv2d(hidden, outputs, 1)
        self.pooled = pooled

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, K, h, w], or [B, K] where it is pooled."""
        x = torch.relu(self.bn1(self.conv1(features)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.out(x.mean((2, 3), keepdim=True)).flatten(1) if self.pooled else self.out(x)


class SuperNet(nn.Module):
    """Encoder and decoders; a SubNet is the same with a configuration other than all ones.

    Args:
        sizes: at full width.
        tasks: in the order of a configuration's decoders.
        encoder: the encoder, if it is not the plain one.
    """

    def __init__(self, sizes: Sizes, tasks: Sequence[Task], encoder: Encoder | None = None):
        super().__init__()
        self.sizes, self.tasks = sizes, list(tasks)
        own = Encoder(sizes) if encoder is None else encoder
        self.encoder = Slimmable(own, own.sides, sizes.divisor)
        decode = partial(Decoder, sizes.features, sizes.hidden)
        self.decoders = nn.ModuleDict(
            {t.name: Slimmable(decode(t.outputs, t.pooled), Decoder.sides, sizes.divisor) for t in tasks}
        )

    def forward(self, images: Tensor, widths: Configuration, *condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The encoder's features [B, C, h, w], and each task's outputs."""
        features = self.encoder(encoder_widths(widths.encoder), images, *condition)
        outputs = {
            task.name: self.decoders[task.name]({"d": ratio}, features)
            for task, ratio in zip(self.tasks, widths.decoders, strict=True)
        }
        return features, outputs

    def decoder(self, task: Task) -> Slimmable:
        found = self.decoders[task.name]
        assert isinstance(found, Slimmable)
        return found

    @property
    def full(self) -> Configuration:
        """The SuperNet itself."""
        return Configuration((1.0,) * len(self.sizes.planes), (1.0,) * len(self.tasks))

    def encoders(self) -> list[tuple[float, ...]]:
        """Widths of every encoder that there is."""
        return list(product(self.sizes.widths, repeat=len(self.sizes.planes)))

    def draw(self, encoder: bool = True, decoders: bool = True) -> Configuration:
        """Widths at random, the encoder's stages and every decoder independently; what is not to be slimmed is full."""

        def some(count: int, slim: bool) -> tuple[float, ...]:
            drawn = torch.randint(len(self.sizes.widths), (count,)).tolist()
            return tuple(self.sizes.widths[k] if slim else 1.0 for k in drawn)

        return Configuration(some(len(self.sizes.planes), encoder), some(len(self.tasks), decoders))


def encoder_widths(ratios: Sequence[float]) -> Widths:
    """A configuration's ratios under the names of the encoder's table."""
    return {str(number): ratio for number, ratio in enumerate(ratios)}


class Costs:
    """Operations of a picture, counted on the networks that are cut out; the neck and the prediction layers count too.

    Args:
        net: the super-network.
        size: height and width of the pictures.
        condition: further inputs of the encoder.
    """

    def __init__(self, net: SuperNet, size: tuple[int, int], condition: Sequence[Tensor] = ()):
        self.net, self.size = copy.deepcopy(net).to("meta"), size
        self.condition = [value.to("meta") for value in condition]
        self.known: dict[tuple[float, ...] | tuple[str, float], float] = {}

    def encoder(self, ratios: tuple[float, ...]) -> float:
        if ratios not in self.known:
            self.known[ratios] = _count(self.net.encoder.cut(encoder_widths(ratios)), *self._inputs())
        return self.known[ratios]

    def decoder(self, task: Task, ratio: float) -> float:
        if (task.name, ratio) not in self.known:
            features = self.net.encoder.net(*self._inputs())
            self.known[task.name, ratio] = _count(self.net.decoder(task).cut({"d": ratio}), features)
        return self.known[task.name, ratio]

    def _inputs(self) -> list[Tensor]:
        return [torch.zeros(1, 3, *self.size, device="meta"), *self.condition]

    def total(self, widths: Configuration) -> float:
        """Of encoder and decoders; twice the multiply-adds."""
        decoders = sum(self.decoder(t, r) for t, r in zip(self.net.tasks, widths.decoders, strict=True))
        return self.encoder(widths.encoder) + decoders


def _count(net: nn.Module, *inputs: Tensor) -> float:
    with flop_counter() as counter, torch.no_grad():
        net(*inputs)
    return float(counter.get_total_flops())
