"""Pictures for the report: how features change from step to step, and what they look like."""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from common.charts import Line, line_chart, side_by_side
from common.visual import Themed, enlarged, filmstrip

COLUMNS = 10  # steps that are shown


def change_chart(raw: dict[str, np.ndarray], relative: dict[str, np.ndarray]) -> Themed:
    """Changes [T - 1] by block, raw and relative, on logarithmic scales."""
    panels = []
    for values, up in ((raw, "log10 of the change"), (relative, "log10 of the relative change")):
        lines = [Line(range(1, len(row) + 1), np.log10(row + 1e-12).tolist(), name) for name, row in values.items()]
        panels.append(line_chart(lines, "step", up))
    return side_by_side(*panels)


def component_picture(features: dict[str, Tensor]) -> np.ndarray:
    """Features [T, d, s, s] of a picture by block -> rows of steps: the first three principal components as colours."""
    rows = []
    for maps in features.values():
        steps = np.linspace(0, len(maps) - 1, COLUMNS).round().astype(int)
        chosen = maps[torch.from_numpy(steps)]
        pixels = rearrange(chosen, "t d h w -> (t h w) d")
        pixels = pixels - pixels.mean(0)
        _, _, axes = torch.linalg.svd(pixels, full_matrices=False)
        shown = pixels @ axes[:3].T
        low, high = shown.quantile(0.02, dim=0), shown.quantile(0.98, dim=0)
        colours = ((shown - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        frames = rearrange(colours, "(t h w) c -> t h w c", t=COLUMNS, h=chosen.shape[-2])
        rows.append(enlarged((frames.numpy() * 255).astype(np.uint8), 48))
    return np.concatenate([filmstrip([row]) for row in rows])
