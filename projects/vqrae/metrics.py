"""What the tables of the paper measure, beside torchmetrics' PSNR and SSIM."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import UserError
from common.evaluators.frechet import Inception, frechet_distance
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


def fid(judge: LogitDistance | None, inception: Inception | None) -> FrechetInceptionDistance:
    """Frechet distance of Inception's features, or without it of a world's judge. Takes pictures in [0, 1]."""
    if inception is not None:
        return frechet_distance(inception)
    if judge is None:
        raise UserError("the Frechet distance needs features: give inception, or the perceptual nets of a world")
    return FrechetInceptionDistance(ConvNextFeatures(judge), normalize=True)
