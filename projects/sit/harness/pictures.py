"""What the report shows: where the tokens that are left come from."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data.images import IMAGENET_MEAN, IMAGENET_STD, to_uint8
from common.visual import filmstrip

SHOWN, SIDE = 8, 96
DIM = 0.25
"""Brightness of what no token looks at."""
CAPTION = (
    "Test pictures, and below each what the tokens that are left are made of: bright is what weighs most in their mean"
)


def of_tokens(images: Tensor, mixing: list[Tensor], grid: tuple[int, int]) -> np.ndarray:
    """Two rows, uint8 [H, W, 3].

    Args:
        images: normalised ones [B, 3, S, S].
        mixing: weights of each slimming, [B, K, N] each, N the K before.
        grid: rows and columns of the first N tokens.
    """
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    seen = to_uint8(images * std + mean)
    made = mixing[0]
    for weights in mixing[1:]:
        made = weights @ made
    share = made.mean(1).reshape(-1, *grid)
    share = (share / share.amax((1, 2), keepdim=True)).float().cpu().numpy()
    lit = []
    for image, part in zip(seen, share, strict=True):
        large = np.array(Image.fromarray(part).resize(image.shape[1::-1], Image.Resampling.NEAREST))
        lit.append((image * (DIM + (1 - DIM) * large[..., None])).astype(np.uint8))
    return filmstrip([seen, np.stack(lit)], SIDE)
