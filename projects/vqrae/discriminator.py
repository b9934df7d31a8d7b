"""The patch discriminator of TiTok's code base, which VQRAE adapts (App. B.1), and the losses that go with it."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from common.training.distributed import gather

BLUR = (1.0, 3.0, 3.0, 1.0)


class SameConv2d(nn.Conv2d):
    """A convolution of stride 1 whose output is as large as its input, as TensorFlow pads: the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size[0], stride=1))


class Blur(nn.Module):
    """Halves a picture behind a smoothing kernel, so that fine detail does not alias."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor(BLUR)
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", rearrange(kernel / kernel.sum(), "h w -> 1 1 h w"))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)]."""
        kernel = self.kernel.expand(x.shape[1], -1, -1, -1)
        return F.conv2d(pad_same(x, len(BLUR), stride=2), kernel, stride=2, groups=x.shape[1])


class PatchDiscriminator(nn.Module):
    """Judges patches: a map of 16 x 16 logits per picture, high for real ones.

    Args:
        hidden: channels of the first convolution, a multiple of 32.
        stages: 3x3 convolutions, each with a halving behind it. The first keeps the channels, each further one doubles
            them (three stages: 128, 256, 512).
    """

    def __init__(self, hidden: int = 128, stages: int = 3):
        super().__init__()
        self.block_in = nn.Sequential(SameConv2d(3, hidden, 5), nn.LeakyReLU(0.1))
        blocks, channels = [], hidden
        for stage in range(stages):
            wider = hidden * 2**stage
            norm = nn.GroupNorm(32, wider)
            blocks.append(nn.Sequential(SameConv2d(channels, wider, 3), Blur(), norm, nn.LeakyReLU(0.1)))
            channels = wider
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.AdaptiveMaxPool2d(16)
        self.to_logits = nn.Sequential(SameConv2d(channels, channels, 1), nn.LeakyReLU(0.1), SameConv2d(channels, 1, 5))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> logits [B, 1, 16, 16]."""
        x = self.block_in(images)
        for block in self.blocks:
            x = block(x)
        return self.to_logits(self.pool(x))


class LeCam(nn.Module):
    """LeCam's regulariser (Tseng et al. 2021): keeps a discriminator's mean logits near the other side's running mean.

    Args:
        decay: of the running means.
    """

    def __init__(self, decay: float = 0.999):
        super().__init__()
        self.decay = decay
        self.register_buffer("ema_real", torch.zeros(1))
        self.register_buffer("ema_fake", torch.zeros(1))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """relu(mean D(x) - ema_fake)^2 + relu(ema_real - mean D(x'))^2, means over the batch of all processes."""
        real_mean, fake_mean = (gather(logits.float().mean()[None]).mean() for logits in (real, fake))
        loss = F.relu(real_mean - self.ema_fake).square() + F.relu(self.ema_real - fake_mean).square()
        with torch.no_grad():
            self.ema_real.lerp_(real_mean.detach(), 1 - self.decay)
            self.ema_fake.lerp_(fake_mean.detach(), 1 - self.decay)
        return loss.squeeze()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge: (E relu(1 - D(x)) + E relu(1 + D(x'))) / 2."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """-E D(x')."""
    return -fake.mean()


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around [B, C, H, W] so that a convolution gives ceil(H / stride) rows; more of them behind than before."""
    height, width = (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


@dataclass
class Adversary:
    """The discriminator, from when on it plays, and how much it counts (Table 7, stage 2).

    Attributes:
        start: training step.
        weight: lambda_G of L_rec.
        lecam: weight of LeCam's regulariser, TiTok's. Whether VQRAE keeps it is not stated.
        lr: peak learning rate; its schedule is `TokenizerTraining`'s.
        hidden: channels of the first convolution.
        stages: number of halvings.
    """

    start: int
    weight: float = 0.1
    lecam: float = 0.001
    lr: float = 4e-5
    hidden: int = 128
    stages: int = 3
