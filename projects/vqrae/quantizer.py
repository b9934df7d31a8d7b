"""SimVQ (Zhu et al. 2024) as VQRAE uses it (§3.2, Eq. 1 and 3), and the plain quantiser it is compared with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 2**27  # distances held at once, 512 MiB: a batch of images against 16384 codes would take tens of gigabytes


class SimVQ(nn.Module):
    """Nearest neighbour among projected codes c_i W + b, in L2 distance.

        quantizer = SimVQ(codebook_size=16384, dim=1536)
        codes, indices, loss = quantizer(tokens)  # tokens [B, N, e]

    The codes C are drawn once and stay as they are; only the square linear layer (W, b) learns, and moves all codes at
    once. That is SimVQ's own recipe; VQRAE speaks of an "initialized codebook" with a "learnable projection".

    Args:
        codebook_size: number of codes k.
        dim: their dimension e.
        beta: weight of the codebook term; the commitment term has weight 1. This is the order of VQRAE's Eq. 3 and the
            default of SimVQ's class; VQ-VAE and SimVQ's released configs (`legacy: false`) have it the other way round.
        projected: False for plain vector quantisation: no projection, the codes themselves learn.
    """

    def __init__(self, codebook_size: int, dim: int, beta: float = 0.25, projected: bool = True):
        super().__init__()
        self.codebook_size, self.dim, self.beta = codebook_size, dim, beta
        self.codes = nn.Parameter(torch.randn(codebook_size, dim) * dim**-0.5, requires_grad=not projected)
        self.projection = nn.Linear(dim, dim) if projected else nn.Identity()

    def codebook(self) -> Tensor:
        """The effective codes, [k, e]: what distances are measured to and what a decoder gets."""
        return self.projection(self.codes)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise.

        Args:
            z: token features, [B, N, e].

        Returns:
            The nearest effective codes [B, N, e], whose gradient goes straight through to z and nowhere else; their
            indices, int64 [B, N]; and L_quant = mean (z - sg(c))^2 + beta * mean (sg(z) - c)^2.
        """
        with torch.autocast(z.device.type, enabled=False):  # distances of near codes drown in bfloat16's rounding
            z = z.float()
            codebook = self.codebook()
            indices = nearest(z.detach().flatten(0, 1), codebook.detach()).view(z.shape[:2])
            codes = F.embedding(indices, codebook)
            loss = F.mse_loss(z, codes.detach()) + self.beta * F.mse_loss(codes, z.detach())
            return z + (codes - z).detach(), indices, loss

    def lookup(self, indices: Tensor) -> Tensor:
        """Effective codes of stored indices: [B, N] -> [B, N, e]. SimVQ's own look-up forgets the projection."""
        return self.projection(F.embedding(indices, self.codes))


def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` [k, e] for each row of `z` [T, e], in L2 distance: int64 [T]."""
    squares = codebook.square().sum(1)
    return torch.cat([(squares - 2 * part @ codebook.T).argmin(1) for part in z.split(max(1, CHUNK // len(codebook)))])
