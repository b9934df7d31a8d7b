"""What of a video counts as its motion: the representation that the consistency loss compares."""

import math
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Motion = Literal["raw", "diff", "freql", "freqh", "gcor", "sgcor", "lcor", "learn", "hlearn"]
STOP = 0.25  # of the frequency filter, in units of the highest frequency
ORDER = 4
RADIUS = 7  # of local correlation


class SpatialHead(nn.Module):
    """The learned motion representation, frame by frame: H(x) = x + conv_out(SiLU(... norm(conv(SiLU(x))) ...)).

    The last convolution starts from zero, so that H is the identity at first.

    Args:
        channels: C of the latents.
        hidden: channels within, a multiple of the norm's groups.
        layers: convolutions, the last one included.
        kernel: their size, but for the last one's, which is 1.
        norm_num_groups: groups of the norm.
        norm_eps: its epsilon.
    """

    def __init__(
        self,
        channels: int = 4,
        hidden: int = 64,
        layers: int = 2,
        kernel: int = 1,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        widths = [channels, *[hidden] * (layers - 1)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, kernel, padding=kernel // 2),
                nn.GroupNorm(norm_num_groups, after, eps=norm_eps),
            )
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.conv_out = nn.Conv2d(widths[-1], channels, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> the same shape."""
        frames = hidden = rearrange(latents, "b c f h w -> (b f) c h w")
        for layer in self.layers:
            hidden = layer(F.silu(hidden))
        motion = frames + self.conv_out(F.silu(hidden))
        return rearrange(motion, "(b f) c h w -> b c f h w", b=len(latents))


class FixedMotion(nn.Module):
    """A motion representation without parameters; see the functions below."""

    def __init__(self, kind: Motion):
        super().__init__()
        self.kind = kind

    def forward(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> what is compared."""
        functions = {
            "raw": lambda z: z,
            "diff": difference,
            "freql": low_frequencies,
            "freqh": high_frequencies,
            "gcor": correlation,
            "sgcor": lambda z: correlation(z) * math.sqrt(z.shape[3]),
            "lcor": local_correlation,
        }
        return functions[self.kind](latents)


def motion_head(kind: Motion, channels: int = 4) -> nn.Module:
    """The representation by its name; "learn" is the paper's."""
    if kind == "learn":
        return SpatialHead(channels)
    if kind == "hlearn":
        return SpatialHead(channels, layers=5, kernel=3)
    return FixedMotion(kind)


def difference(latents: Tensor) -> Tensor:
    """What changes from frame to frame, [B, C, F - 1, h, w]."""
    return latents[:, :, 1:] - latents[:, :, :-1]


def low_pass(shape: tuple[int, int, int]) -> Tensor:
    """Butterworth filter over (time, height, width) with the lowest frequency in the middle, [F, h, w].

    1 / (1 + (d^2 / 0.25^2)^4) with d^2 = (2t/F - 1)^2 + (2y/h - 1)^2 + (2x/w - 1)^2.
    """
    axes = [2 * torch.arange(n) / n - 1 for n in shape]
    d2 = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij"))
    return 1 / (1 + (d2 / STOP**2) ** ORDER)


def low_frequencies(latents: Tensor) -> Tensor:
    """Space and time together, smoothed: [B, C, F, h, w] -> the same shape."""
    return filtered(latents, low_pass(tuple(latents.shape[2:])))


def high_frequencies(latents: Tensor) -> Tensor:
    """What `low_frequencies` leaves out."""
    return filtered(latents, 1 - low_pass(tuple(latents.shape[2:])))


def filtered(latents: Tensor, weights: Tensor) -> Tensor:
    axes = (-3, -2, -1)
    spectrum = torch.fft.fftshift(torch.fft.fftn(latents.float(), dim=axes), dim=axes)  # in half precision: only 2^n
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * weights.to(spectrum.device), dim=axes), dim=axes).real


def frame_pairs(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Every frame but the last and the one after it, both [B * (F - 1), C, h, w]."""
    first, second = latents[:, :, :-1], latents[:, :, 1:]
    return rearrange(first, "b c f h w -> (b f) c h w"), rearrange(second, "b c f h w -> (b f) c h w")


def correlation(latents: Tensor) -> Tensor:
    """<z_p, z_q> / sqrt(C) of all places p of a frame with all places q of the next, [B * (F - 1), hw, hw]."""
    first, second = (x.flatten(2) for x in frame_pairs(latents))
    return torch.einsum("ncp,ncq->npq", first, second) / math.sqrt(latents.shape[1])


def local_correlation(latents: Tensor, radius: int = RADIUS) -> Tensor:
    """The same with the places q at most `radius` away from p, [B * (F - 1), (2 radius + 1)^2, h, w]; 0 outside."""
    first, second = frame_pairs(latents)
    window = 2 * radius + 1
    near = F.unfold(second, window, padding=radius)
    near = rearrange(near, "n (c k) (h w) -> n c k h w", c=second.shape[1], h=second.shape[2])
    return torch.einsum("nchw,nckhw->nkhw", first, near) / math.sqrt(latents.shape[1])
