"""Floating-point operations of a step: torch's counter, with the formulas that it (2.14) lacks or has wrong.

A multiply-add counts as two. Only products and convolutions count.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    conv_flop_count,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
    shape_wrapper,
)

Shape = Sequence[int]


def convolution_backward(
    grad_out: Shape, x: Shape, weight: Shape, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, output_mask: Sequence[bool], **_: Any,
) -> int:  # fmt: skip
    """The gradients of input and of weight cost as much as the forward pass each.

    Torch's own formula forgets the groups in the weight's gradient: a depthwise one comes out channels times too large.
    """
    return (output_mask[0] + output_mask[1]) * conv_flop_count(list(x), list(weight), list(grad_out), transposed)


def attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Attention by the fused kernel for CPUs, for which torch has no formula."""
    return sdpa_flop_count(query, key, value)


def attention_backward(grad_out: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Its backward pass, which computes the scores anew."""
    return sdpa_backward_flop_count(grad_out, query, key, value)


aten = torch.ops.aten
OURS: dict[Any, Callable[..., int]] = {
    aten.convolution_backward: convolution_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}
FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    **{operation: shape_wrapper(formula) for operation, formula in OURS.items()},
}
"""Operation -> function of its arguments and its result (`out_val`)."""


def flop_counter() -> FlopCounterMode:
    """A context in which operations are counted; `get_total_flops()` tells them."""
    return FlopCounterMode(display=False, custom_mapping=OURS)
