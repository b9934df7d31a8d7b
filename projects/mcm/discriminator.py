"""The frame discriminator: small conditioned heads on the tokens of a frozen encoder, and its losses.

The design is that of StyleGAN-T (Sauer et al. 2023), which MCM takes over.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from common.training.distributed import gather

GanLoss = Literal["wgan", "hinge", "bce"]
GP_HIGH, GP_FACTOR, GP_PAUSE = 100.0, 5.0, 500


class LocalBatchNorm(nn.Module):
    """Batch normalisation in groups of about `virtual` neighbours of the batch, in training and evaluation alike.

    A batch of N is split into ceil(N / virtual) groups, which must divide it.
    """

    def __init__(self, channels: int, virtual: int = 8, eps: float = 1e-5):
        super().__init__()
        self.virtual, self.eps = virtual, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, L] -> [N, C, L].

        Raises:
            ValueError: the groups do not divide the batch.
        """
        groups = math.ceil(len(x) / self.virtual)
        if len(x) % groups:
            raise ValueError(f"{len(x)} frames do not divide into {groups} equal groups of about {self.virtual}")
        grouped = rearrange(x, "(g n) c l -> g n c l", g=groups)
        variance, mean = torch.var_mean(grouped, (1, 3), keepdim=True, unbiased=False)
        normalised = rearrange((grouped - mean) / (variance + self.eps).sqrt(), "g n c l -> (g n) c l")
        return normalised * self.weight[:, None] + self.bias[:, None]


def spectral_conv(channels: int, out: int, kernel: int) -> nn.Module:
    conv = nn.Conv1d(channels, out, kernel, padding=kernel // 2, padding_mode="circular")
    return spectral_norm(conv)


def block(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(spectral_conv(channels, channels, kernel), LocalBatchNorm(channels), nn.LeakyReLU(0.2))


class Residual(nn.Module):
    """(x + f(x)) / sqrt(2)."""

    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.fn(x)) / math.sqrt(2)


class Head(nn.Module):
    """A logit for every token, by its likeness to the projected condition.

    Args:
        channels: D of the tokens.
        condition: d of the sentence embedding.
        projection: dimension in which both are compared.
    """

    def __init__(self, channels: int, condition: int, projection: int = 64):
        super().__init__()
        self.main = nn.Sequential(block(channels, 1), Residual(block(channels, 9)))
        self.cls = spectral_conv(channels, projection, 1)
        self.cmapper = nn.Linear(condition, projection)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """[N, L, D] and [N, d] -> [N, L]."""
        scores = self.cls(self.main(rearrange(tokens, "n l d -> n d l")))
        wanted = self.cmapper(condition)
        return torch.einsum("nkl,nk->nl", scores, wanted) / math.sqrt(wanted.shape[1])


class FrameDiscriminator(nn.Module):
    """A head for each tapped block of the frozen encoder.

    Args:
        blocks: numbers of the blocks, which name the heads.
        channels: D of the tokens.
        condition: d of the sentence embedding.
    """

    def __init__(self, blocks: Sequence[int], channels: int, condition: int):
        super().__init__()
        self.heads = nn.ModuleDict({str(number): Head(channels, condition) for number in blocks})

    def forward(self, features: Sequence[Tensor], condition: Tensor) -> Tensor:
        """Tokens of each tapped block [N, L, D] and sentence embeddings [N, d] -> logits [N, heads * L]."""
        return torch.cat([h(x, condition) for h, x in zip(self.heads.values(), features, strict=True)], 1)


def generator_loss(fake: Tensor, kind: GanLoss) -> Tensor:
    """-mean D(fake); for "hinge" that plus 1; for "bce" the cross-entropy to the label "real"."""
    if kind == "bce":
        return F.softplus(-fake).mean()
    return (1 - fake).mean() if kind == "hinge" else -fake.mean()


def discriminator_losses(real: Tensor, fake: Tensor, kind: GanLoss) -> tuple[Tensor, Tensor]:
    """The terms of real and of fake frames.

    "wgan" is mean max(-1, -D(real)) and mean max(-1, D(fake)), which is the hinge loss less 1: the same gradients.
    """
    if kind == "wgan":
        return (-real).clamp(min=-1).mean(), fake.clamp(min=-1).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean(), F.relu(1 + fake).mean()
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def gradient_penalty(
    discriminator: Callable[[Sequence[Tensor], Tensor], Tensor], features: Sequence[Tensor], condition: Tensor
) -> Tensor:
    """mean over frames of (||d sum of logits / d features|| - 1)^2, the norm over all tapped tokens of a frame.

    Args:
        features: of pixel-interpolated frames, [N, L, D] each; the gradient is with regard to them, not to pixels.
    """
    inputs = [x.detach().requires_grad_().clone() for x in features]  # no leaves: torch's counter of operations forbids
    logits = discriminator(inputs, condition)
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    norms = torch.cat([g.flatten(1) for g in gradients], 1).norm(dim=1)
    return (norms - 1).square().mean()


class PenaltyWeight(nn.Module):
    """lambda of the gradient penalty: five times as large when the penalty is 100 or more, and more than 500 steps have
    passed since the start of training or the last rise.

    Args:
        start: lambda at first.
    """

    value: Tensor
    raised: Tensor

    def __init__(self, start: float = 1e-5):
        super().__init__()
        self.register_buffer("value", torch.tensor(start))
        self.register_buffer("raised", torch.tensor(0))

    @torch.no_grad()
    def update(self, penalty: Tensor, step: int) -> Tensor:
        """lambda for this step, given the penalty [] of this process; all processes decide alike."""
        high = gather(penalty.detach()[None]).mean() >= GP_HIGH
        due = high & (step - self.raised > GP_PAUSE)
        self.value.mul_(torch.where(due, GP_FACTOR, 1.0))
        self.raised.copy_(torch.where(due, torch.full_like(self.raised, step), self.raised))
        return self.value.clone()
