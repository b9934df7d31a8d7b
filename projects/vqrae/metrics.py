"""What the tables of the paper measure, beside torchmetrics' PSNR and SSIM."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import UserError
from common.paths import expand
from common.training.weights import load_state
from projects.vqrae.perceptual import LogitDistance


class CodebookUsage(Metric):
    """Share of the codes that at least one token selected, over everything seen since the last reset."""

    full_state_update = False

    def __init__(self, codebook_size: int):
        super().__init__()
        self.add_state("used", torch.zeros(codebook_size, dtype=torch.long), dist_reduce_fx="max")

    def update(self, indices: Tensor) -> None:
        """Token indices of any shape."""
        self.used[indices.flatten()] = 1

    def compute(self) -> Tensor:
        return self.used.float().mean()


class ConvNextFeatures(nn.Module):
    """Features before the last layer of a world's classifier, in the place of Inception's at mini scale."""

    def __init__(self, judge: LogitDistance):
        super().__init__()
        self.judge = judge
        self.num_features = judge.classifier.classifier[-1].in_features

    def forward(self, images: Tensor) -> Tensor:
        """uint8 or float in [0, 1] [B, 3, S, S] -> [B, F]."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return self.judge.classifier.classifier[:-1](self.judge.pooled(pixels))


@dataclass
class Inception:
    """Inception for the Frechet distance.

    Attributes:
        weights: torch-fidelity's file pt_inception-2015-12-05-6726825d.pth.
        features: which of its layers; 2048 is the one that everybody reports.
    """

    weights: str
    features: Literal[64, 192, 768, 2048] = 2048


def fid(judge: LogitDistance | None, inception: Inception | None) -> FrechetInceptionDistance:
    """Frechet distance of Inception's features, or without it of a world's judge. Takes pictures in [0, 1]."""
    if inception is not None:
        weights = expand(inception.weights, "inception.weights")
        load_state(weights)  # refuses a missing, damaged or unsafe file, which torch-fidelity would not
        return FrechetInceptionDistance(inception.features, normalize=True, feature_extractor_weights_path=str(weights))
    if judge is None:
        raise UserError("the Frechet distance needs features: give inception, or the perceptual nets of a world")
    return FrechetInceptionDistance(ConvNextFeatures(judge), normalize=True)
