"""What the report shows: how weights lie in their buckets, and how many of them each point takes."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from common.charts import Line, line_chart
from common.visual import Themed
from projects.quantized_distillation.quantize import Quantizer, scale

CAPTION = (
    "The largest tensor: density of the weights, scaled to [0, 1] in their buckets; and each point where it lies, as "
    "high as the share of the weights that take it (times ten)"
)
BINS = 60


def of_weights(net: nn.Module, quantizer: Quantizer, points: Mapping[str, Tensor] | None = None) -> Themed:
    """The largest quantized tensor and its points: the learned ones, or else the uniform ones."""
    name, weights = max(quantizer.chosen(net).items(), key=lambda pair: pair[1].numel())
    scaled = scale(weights.detach(), quantizer.bucket)
    own = points[name].detach() if points else None
    places = np.linspace(0, 1, quantizer.levels) if own is None else own.cpu().numpy()
    values = scaled.cut(scaled.values).flatten().cpu().numpy()
    density, edges = np.histogram(values, BINS, density=True)
    shares = np.bincount(quantizer.codes(weights, own).flatten().cpu().numpy(), minlength=len(places)) / len(values)
    lines = [Line(list((edges[1:] + edges[:-1]) / 2), list(density), "weights")]
    lines += [Line([x], [10 * y], "points", dots=True) for x, y in zip(places, shares, strict=True)]
    return line_chart(lines, "scaled weight", "density", f"{name}, {len(places)} points")
