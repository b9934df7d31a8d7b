"""What the report shows: cloth with faults, where they are, and the anomaly maps beside each other."""

import numpy as np

from common.visual import GAP, draw_masks

SHOWN = 6
LOW, HIGH = np.array((30.0, 40.0, 90.0)), np.array((255.0, 210.0, 60.0))
"""Colours of a map's darkest and brightest pixels."""


def heat(maps: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Maps [B, S, S] in colours, uint8 [B, S, S, 3]: from the median of maps without a fault to twice their highest."""
    low, high = np.median(normal), np.quantile(normal, 0.999)
    share = ((maps - low) / max(2 * (high - low), 1e-12)).clip(0, 1)[..., None]
    return (LOW + share * (HIGH - LOW) + 0.5).astype(np.uint8)


def rows(images: np.ndarray, maps: np.ndarray, masks: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, 3, S, S] above their masks [B, S, S] above their maps: uint8 [3 (S + GAP), B (S + GAP), 3]."""
    pictures = images.transpose(0, 2, 3, 1)
    marked = np.stack([draw_masks(image, mask[None]) for image, mask in zip(pictures, masks, strict=True)])
    padded = [
        np.pad(part, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
        for part in (pictures, marked, heat(maps, normal))
    ]
    return np.concatenate([np.concatenate(list(part), 1) for part in padded])
