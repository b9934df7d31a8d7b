"""What a quantized network takes: bits of Huffman's code, bytes in all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from projects.quantized_distillation.huffman import mean_bits
from projects.quantized_distillation.quantize import Quantizer, scale

BYTES = 4
"""Of a float32."""


@dataclass(frozen=True)
class Size:
    """Mean code length of the quantized weights, and bytes of all parameters."""

    bits: float
    bytes: float


def size_of(net: nn.Module, quantizer: Quantizer | None, points: Mapping[str, Tensor] | None = None) -> Size:
    """The paper's count: one Huffman code for the numbers of all tensors' points, two float32 for each bucket, and the
    parameters that stay whole. Learned points, four bytes each, are counted too; batch norms' statistics never are.

    Args:
        quantizer: None counts whole parameters.
        points: learned ones by parameter; None are the uniform ones.
    """
    everything = sum(p.numel() for p in net.parameters())
    if quantizer is None:
        return Size(8.0 * BYTES, float(BYTES * everything))
    chosen = quantizer.chosen(net)
    counts, buckets = np.zeros(0), 0
    for name, weights in chosen.items():
        codes = quantizer.codes(weights, points[name] if points else None)
        found = np.bincount(codes.flatten().cpu().numpy())
        counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
        counts[: len(found)] += found
        buckets += len(scale(weights.detach(), quantizer.bucket).alpha)
    bits, coded = mean_bits(counts), counts.sum()
    kept = everything - coded + sum(len(p) for p in (points or {}).values())
    return Size(bits, float(bits * coded / 8 + 2 * BYTES * buckets + BYTES * kept))
