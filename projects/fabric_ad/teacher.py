"""The frozen teacher: a ResNet of timm, whose feature maps before its last stage are what the student has to give.

    python -m projects.fabric_ad.teacher fit --config projects/fabric_ad/configs/mini/teacher.yaml

At mini scale it is trained here to tell families of textures; else timm's weights of ImageNet are taken.
"""

from collections.abc import Sequence

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from common.cli import main, one_seed
from common.data.images import IMAGENET_MEAN, IMAGENET_STD, PictureData
from common.errors import UserError
from common.foundations.classifier import Classification
from common.hub import explained
from common.paths import expand
from common.training.weights import load_weights

Maps = tuple[Tensor, ...]
"""Feature maps from shallow to deep, [B, C_l, H_l, W_l] each."""


def imagenet_resnet(name: str = "resnet34.a1_in1k", pretrained: bool = True) -> nn.Module:
    """A ResNet of timm with its weights; without a tag timm chooses the newest ones."""
    if not pretrained:
        return timm.create_model(name)
    with explained("ResNet's weights", f"timm/{name}"):
        return timm.create_model(name, pretrained=True)


def small_resnet(channels: Sequence[int] = (16, 32, 64, 64), stem: int = 16, classes: int = 24) -> nn.Module:
    """A narrow ResNet with one block a stage, its stem three small convolutions."""
    sizes = {"channels": tuple(channels), "stem_type": "deep", "stem_width": stem // 2}
    return ResNet(BasicBlock, (1, 1, 1, 1), classes, zero_init_last=False, **sizes)


class Teacher(nn.Module):
    """The maps t0 to t3 of a ResNet: its stem's, max-pooled to the size of the first stage's, and three stages'.

    Args:
        net: a ResNet of timm.
        weights: a file with its weights; None keeps what it has.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, weights: str | None = None):
        super().__init__()
        if not isinstance(net, ResNet):
            raise UserError(f"the teacher is a {type(net).__name__}: take a ResNet of timm (resnet34, wide_resnet50_2)")
        if weights is not None:
            load_weights(net, expand(weights, "model.teacher_weights"))
        self.stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3])
        self.channels = tuple(info["num_chs"] for info in net.feature_info[:4])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def frozen(self) -> "Teacher":
        return self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Maps:
        """[B, 3, S, S] in [0, 1] -> maps of S/4, S/4, S/8 and S/16."""
        maps = [self.stem((images - self.mean) / self.std)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps)


if __name__ == "__main__":
    main(Classification, PictureData, links=one_seed)
