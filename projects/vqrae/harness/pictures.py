"""Small pictures side by side, for the report."""

import numpy as np
from einops import rearrange

from common.visual import enlarge

SHOWN = 96  # pixels that a picture takes at least


def strip(images: np.ndarray, rows: int = 2) -> np.ndarray:
    """Pictures uint8 [B, H, W, 3] in `rows` rows, as one; pictures that fill no row are left out."""
    if len(images) < rows:
        rows = 1
    images = np.stack([enlarge(image, max(SHOWN, image.shape[0]))[0] for image in images])
    whole = images[: len(images) // rows * rows]
    framed = np.pad(whole, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    return np.ascontiguousarray(rearrange(framed, "(r c) h w k -> (r h) (c w) k", r=rows))
