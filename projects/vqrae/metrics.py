"""What the tables of the paper measure, beside torchmetrics' PSNR and SSIM, and the floors that they start from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import UserError
from common.evaluators.frechet import Inception, frechet_distance
from projects.vqrae.perceptual import LogitDistance


class CodebookUsage(Metric):
    """How much of the codebook tokens select, over everything seen since the last reset.

    - `usage`: share of the codes that at least one token selected, from 1 / k to 1. It is near 1 for any code that many
      tokens meet, however seldom.
    - `perplexity`: exp of the entropy of the codes' frequencies, as a share of k: the same where all codes are selected
      equally often, lower where few of them carry most tokens.
    """

    full_state_update = False

    def __init__(self, codebook_size: int):
        super().__init__()
        self.add_state("counts", torch.zeros(codebook_size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, indices: Tensor) -> None:
        """Token indices of any shape."""
        self.counts += torch.bincount(indices.flatten(), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        frequencies = self.counts.double() / self.counts.sum()
        entropy = torch.special.entr(frequencies).sum()
        shares = {"usage": (self.counts > 0).float().mean(), "perplexity": entropy.exp() / len(self.counts)}
        return {name: value.float() for name, value in shares.items()}


class QuantisationError(Metric):
    """Squared distance of tokens to their codes, as a share of the tokens' own variance.

    0 for codes that are the tokens; 1 for one code at the tokens' mean. A share, so that codebooks of different
    dimensions compare.
    """

    full_state_update = False

    def __init__(self, dim: int):
        super().__init__()
        self.add_state("total", torch.zeros(dim, dtype=torch.double), dist_reduce_fx="sum")
        for name in ("squares", "error", "tokens"):
            self.add_state(name, torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")

    def update(self, tokens: Tensor, codes: Tensor) -> None:
        """Tokens before and after quantisation, [..., e]."""
        z, c = (values.double().flatten(0, -2) for values in (tokens, codes))
        self.total += z.sum(0)
        self.squares += z.square().sum()
        self.error += (z - c).square().sum()
        self.tokens += len(z)

    def compute(self) -> Tensor:
        variance = self.squares - self.total.square().sum() / self.tokens
        return (self.error / variance).float()


def mean_colour(images: Tensor, patch: int | None = None) -> Tensor:
    """Pictures [B, 3, S, S] painted in their own mean colour, or each patch in its own: what needs no understanding.

    The first is the floor of a reconstruction, the second what a token that knows nothing but a colour reaches.
    """
    side = patch or images.shape[-1]
    return F.interpolate(F.avg_pool2d(images, side), scale_factor=side)


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
