"""Image classifiers of published architectures at any width: full for released weights, narrow for the worlds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VGG, ConvNeXt
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import make_layers
from transformers import SiglipConfig, SiglipForImageClassification


def vgg16(width: int = 64, classes: int = 1000) -> nn.Module:
    """VGG16's convolutions, `width` channels in the first and up to 8 times as many later, and one linear layer.

    `features` has the keys of torchvision's vgg16; the three large linear layers of the original are left out.
    """
    plan: list[str | int] = []
    for factor, convolutions in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        plan += [*([factor * width] * convolutions), "M"]
    with torch.device("meta"):  # the large layers, which would take half a second to fill
        model = VGG(nn.Sequential(), init_weights=False)
    model.features = make_layers(plan)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Linear(8 * width, classes)
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            module.bias.data.zero_()  # type: ignore[union-attr]
    return model


def convnext(
    widths: Sequence[int] = (96, 192, 384, 768), depths: Sequence[int] = (3, 3, 27, 3), classes: int = 1000
) -> nn.Module:
    """ConvNeXt with stages of these widths and numbers of blocks; by default ConvNeXt-S."""
    after: list[int | None] = [*widths[1:], None]
    stages = [CNBlockConfig(width, out, depth) for width, out, depth in zip(widths, after, depths, strict=True)]
    return ConvNeXt(stages, num_classes=classes)


class SiglipClassifier(nn.Module):
    """SigLIP's image tower, the mean of its tokens and a linear layer: transformers' SiglipForImageClassification.

    Args:
        vision: settings of SiglipVisionConfig (hidden_size, num_hidden_layers, image_size, patch_size, ...).
        classes: number of classes.
    """

    def __init__(self, vision: dict[str, Any], classes: int):
        super().__init__()
        config = SiglipConfig(vision_config={**vision, "vision_use_head": False})
        config.num_labels = classes
        self.model = SiglipForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S], normalised -> logits [B, classes]."""
        return self.model(images).logits
