"""The perceptual loss of TiTok's code base, which VQRAE adapts (App. B.1): LPIPS, and distances of ConvNeXt's logits.

Table 7 gives a weight of 1.1 and names "convnext-s". In that code base 1.1 belongs to (LPIPS + 0.1 ConvNeXt-S) / 1.1;
that VQRAE uses the same combination is inferred.
"""

from dataclasses import dataclass
from importlib import resources

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.models.classifiers import convnext, vgg16
from common.paths import expand
from common.training.weights import load_state, load_weights

TAPS = (3, 8, 15, 22, 29)  # the last rectifier of each of VGG16's five blocks
CONVNEXT_SHARE = 0.1
HEADS = resources.files("torchmetrics.functional.image") / "lpips_models/vgg.pth"  # as LPIPS' authors released them


@dataclass
class PerceptualNets:
    """Two frozen nets that see differences as people do.

    Attributes:
        vgg_weights: torchvision's vgg16, or a foundation of `common.models.classifiers.vgg16`.
        convnext_weights: torchvision's convnext_small, or a foundation of `common.models.classifiers.convnext`.
        vgg_width: channels of VGG's first convolutions.
        learned_heads: weigh VGG's channels as LPIPS has learned them, which takes the full width.
        convnext_widths, convnext_depths: sizes of the four stages.
        classes: logits of ConvNeXt.
        convnext_size: pixels that ConvNeXt sees pictures at.
    """

    vgg_weights: str
    convnext_weights: str
    vgg_width: int = 64
    learned_heads: bool = True
    convnext_widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    convnext_depths: tuple[int, int, int, int] = (3, 3, 27, 3)
    classes: int = 1000
    convnext_size: int = 224


class Lpips(nn.Module):
    """LPIPS with VGG16 (Zhang et al. 2018): weighted squared differences of channels at unit length, mean of places.

    Args:
        features: VGG16's convolutions.
        learned_heads: the published weights of the channels; otherwise every layer counts alike, and every channel.
    """

    def __init__(self, features: nn.Sequential, learned_heads: bool = True):
        super().__init__()
        self.features = features[: TAPS[-1] + 1]
        published = load_state(str(HEADS)) if learned_heads else {}
        for k, tap in enumerate(TAPS):
            uniform = torch.full((features[tap - 1].out_channels,), 1 / len(TAPS))
            head = published[f"lin{k}.model.1.weight"].flatten() if learned_heads else uniform
            self.register_buffer(f"head{k}", head)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair of pictures [B, 3, H, W] in [0, 1]: [B]."""
        total = x.new_zeros(len(x))
        a, b = normalise(x), normalise(y)
        for k, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if k in TAPS:
                head = getattr(self, f"head{TAPS.index(k)}")
                difference = (unit(a) - unit(b)).square()
                total = total + torch.einsum("bchw,c->bhw", difference, head).mean((1, 2))
        return total


class LogitDistance(nn.Module):
    """Mean squared difference of a classifier's logits, which sees pictures at its own resolution."""

    def __init__(self, classifier: nn.Module, size: int):
        super().__init__()
        self.classifier, self.size = classifier, size
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair of pictures [B, 3, H, W] in [0, 1]: [B]."""
        return (self.logits(x) - self.logits(y)).square().mean(1)

    def logits(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> [B, classes]."""
        return self.classifier.classifier(self.pooled(images))

    def pooled(self, images: Tensor) -> Tensor:
        """What the last layers see: [B, 3, H, W] in [0, 1] -> [B, F, 1, 1]."""
        shape = (self.size, self.size)
        if images.shape[-2:] != shape:
            images = F.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)
        return self.classifier.avgpool(self.classifier.features(normalise(images)))


class PerceptualLoss(nn.Module):
    """L_P = (LPIPS + 0.1 ConvNeXt) / 1.1, the mean over the batch; its weight in L_rec is 1.1 (Table 7)."""

    def __init__(self, nets: PerceptualNets):
        super().__init__()
        vgg = vgg16(nets.vgg_width).features
        load_weights(vgg, load_state(expand(nets.vgg_weights, "perceptual.vgg_weights")), prefix="features.")
        classifier = convnext(nets.convnext_widths, nets.convnext_depths, nets.classes)
        load_weights(classifier, expand(nets.convnext_weights, "perceptual.convnext_weights"))
        self.lpips = Lpips(vgg, nets.learned_heads)
        self.convnext = LogitDistance(classifier, nets.convnext_size)

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Stays in evaluation mode: no stochastic depth."""
        return super().train(False)

    def forward(self, images: Tensor, reconstructed: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] twice -> the loss."""
        distances = self.lpips(reconstructed, images) + CONVNEXT_SHARE * self.convnext(reconstructed, images)
        return distances.mean() / (1 + CONVNEXT_SHARE)


def normalise(images: Tensor) -> Tensor:
    """[0, 1] -> ImageNet's mean and deviation, which LPIPS' own scaling of [-1, 1] amounts to."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def unit(x: Tensor) -> Tensor:
    """Channels [B, C, H, W] at unit length."""
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()
