"""SAM for ONNX: the image encoder, run once an image, and the mask decoder, for every prompt."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from torch.nn import functional as F

DEFAULT_OPSET = 18  # the oldest that torch's present exporter writes; older ones come from its tracing one
PROTOBUF_LIMIT = 2**31  # bytes in one file; larger weights go into a file beside it
DECODER_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")


def export_encoder(sam: Sam, path: Path, opset: int = DEFAULT_OPSET) -> None:
    """Write the image encoder, for batches of any size."""
    side = sam.image_encoder.img_size
    images = torch.zeros(2, 3, side, side)  # of two, because torch.export takes a size of one for a constant
    export(sam.image_encoder, (images,), ({0: "batch"},), path, ["images"], ["image_embeddings"], opset)


def export_decoder(sam: Sam, path: Path, opset: int = DEFAULT_OPSET, single: bool = False) -> None:
    """Write prompt encoder, mask decoder and the scaling of masks, for any number of prompts and points.

    Args:
        single: one mask for each prompt, which the decoder chooses, instead of all four.
    """
    points = {0: "prompts", 1: "points"}
    shapes = (None, points, points, None, None, None)
    example = decoder_example(sam)
    # strict, because the decoder slices by the image's size, a number that only this (slower) mode keeps a variable
    model = onnx_decoder(sam, single)
    export(model, example, shapes, path, list(DECODER_INPUTS), list(DECODER_OUTPUTS), opset, strict=True)


def onnx_decoder(sam: Sam, single: bool = False) -> nn.Module:
    """segment_anything's decoder for ONNX, with two steps written so that no exporter takes a variable for a constant:
    the size of the image, and the number of prompts of which each gets its own mask."""

    class Decoder(SamOnnxModel):
        def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
            if not torch.jit.is_tracing():
                return super().mask_postprocessing(masks, orig_im_size)
            masks = F.interpolate(masks, size=(self.img_size, self.img_size), mode="bilinear", align_corners=False)
            height, width = self.resize_longest_image_size(orig_im_size, self.img_size)
            size: Any = orig_im_size.to(torch.int64)  # tensors, which a trace keeps variable
            cropped = masks[..., :height, :width]
            return F.interpolate(cropped, size=(size[0], size[1]), mode="bilinear", align_corners=False)

        def select_masks(self, masks: Tensor, iou_preds: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
            """The first mask where there is more than a point (and its padding), else the best of the others."""
            first = torch.zeros_like(iou_preds[:1])
            first[:, 0] = 1000
            scores = iou_preds + (num_points - 2.5) * first
            best = F.one_hot(scores.argmax(1), masks.shape[1]).to(masks.dtype)
            return (masks * best[:, :, None, None]).sum(1, keepdim=True), (iou_preds * best).sum(1, keepdim=True)

    return Decoder(sam, return_single_mask=single).eval()


def decoder_example(sam: Sam) -> tuple[Tensor, ...]:
    """Inputs of the decoder in the order of `DECODER_INPUTS`: two prompts of a box and a point, on an image of 3:4."""
    side, encoder = sam.image_encoder.img_size, sam.prompt_encoder
    return (
        torch.zeros(1, encoder.embed_dim, *encoder.image_embedding_size),
        torch.tensor([[[0.2, 0.2], [0.6, 0.5], [0.4, 0.3]]] * 2) * side,
        torch.tensor([[2.0, 3.0, 1.0]] * 2),
        torch.zeros(1, 1, *encoder.mask_input_size),
        torch.zeros(1),
        torch.tensor([0.75 * side, side]),
    )


def export(
    model: nn.Module,
    example: tuple[Tensor, ...],
    dynamic_shapes: tuple[dict[int, str] | None, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    opset: int,
    strict: bool = False,
) -> None:
    """Write a network as ONNX, without its warnings; axes with a name in `dynamic_shapes` have any length."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    external = size > PROTOBUF_LIMIT
    named: dict[str, Any] = {
        "opset_version": opset,
        "input_names": inputs,
        "output_names": outputs,
        "external_data": external,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if opset < DEFAULT_OPSET:
            axes = {name: shape for name, shape in zip(inputs, dynamic_shapes, strict=True) if shape}
            axes |= {name: {0: next(iter(axes.values()))[0]} for name in outputs}
            torch.onnx.export(model, example, path, dynamo=False, dynamic_axes=axes, **named)
            return
        program = torch.export.export(
            model,
            example,
            dynamic_shapes=tuple(
                shape and {axis: torch.export.Dim(name) for axis, name in shape.items()} for shape in dynamic_shapes
            ),
            strict=strict,
        )
        torch.onnx.export(program, (), path, dynamo=True, verbose=False, **named)


@contextmanager
def errors_only(*names: str) -> Iterator[None]:
    """Loggers that say errors alone for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
