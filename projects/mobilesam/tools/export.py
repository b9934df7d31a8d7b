"""Export a segmenter to ONNX: the image encoder, run once per image, and the mask decoder, run for every prompt.

python -m projects.mobilesam.tools.export --checkpoint mobile_sam.pt --out exported

Both are written in opset 18 (--opset: 14 or newer) and run in onnxruntime with the results of PyTorch. --quantize
writes encoder.quantized.onnx and decoder.quantized.onnx besides, whose products have weights of 8 bits.

encoder.onnx
  images             float32 [B, 3, S, S], S = 1024 for mobile_sam.pt: RGB images as `common.models.sam.preprocess`
                     makes them (longer side scaled to S, mean and deviation normalised, zeros at right and bottom)
  -> image_embeddings float32 [B, C, S/16, S/16]

decoder.onnx has the interface of segment_anything's own ONNX decoder, so programs written for that one take it.
Besides, it answers any number N of prompts on one image at once:
  image_embeddings   float32 [1, C, S/16, S/16], of one image
  point_coords       float32 [N, P, 2]: (x, y) in the frame of the scaled image; any number P of points
  point_labels       float32 [N, P]: 1 on the object, 0 beside it, 2 and 3 for a box's first and last corner, -1 for the
                     point (0, 0) that a prompt without a box must end with
  mask_input         float32 [1, 1, 4*S/16, 4*S/16]: low-resolution logits of an earlier answer, or zeros
  has_mask_input     float32 [1]: 1 to use them, 0 to ignore them
  orig_im_size       float32 [2]: height and width of the image itself
  -> masks           float32 [N, M, height, width]: logits; a mask is where they exceed 0
  -> iou_predictions float32 [N, M]
  -> low_res_masks   float32 [N, M, 4*S/16, 4*S/16]
M is 4: the mask for clear prompts (boxes, several points), then the three for an ambiguous one (a single point), of
which the one with the highest predicted IoU is the best guess. With --return-single-mask it is 1: of these the decoder
itself takes the mask for clear prompts, or, for a single point, the best of the three.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor, nn

DEFAULT_OPSET = 18  # the oldest that torch's present exporter writes; older ones come from its tracing one
OLDEST_OPSET = 14  # the oldest in which that one can write attention
PROTOBUF_LIMIT = 2**31  # bytes in one file; larger weights go into a file beside it
DECODER_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.mobilesam.tools.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--checkpoint", type=given_path, required=True,
        help="mobile_sam.pt, sam_vit_h/l/b*.pth, or a stage's weights.safetensors",
    )  # fmt: skip
    command.add_argument(
        "--config", type=given_path,
        help="sizes of the model: a stage's config.yaml (default: the one beside a safetensors file, "
        "else the published sizes)",
    )  # fmt: skip
    command.add_argument("--out", type=given_path, required=True, help="folder for encoder.onnx and decoder.onnx")
    command.add_argument(
        "--opset",
        type=int,
        default=DEFAULT_OPSET,
        help=f"version of the ONNX operators (default: {DEFAULT_OPSET}, least: {OLDEST_OPSET})",
    )
    command.add_argument(
        "--return-single-mask", action="store_true", help="let the decoder choose: one mask for each prompt, not four"
    )
    command.add_argument("--quantize", action="store_true", help="also write both with weights of 8 bits")
    return command


def export_encoder(sam: Sam, path: Path, opset: int = DEFAULT_OPSET) -> None:
    """Write the image encoder, for batches of any size."""
    import torch

    side = sam.image_encoder.img_size
    images = torch.zeros(2, 3, side, side)  # of two, because torch.export takes a size of one for a constant
    _export(sam.image_encoder, (images,), ({0: "batch"},), path, ["images"], ["image_embeddings"], opset)


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
    _export(model, example, shapes, path, list(DECODER_INPUTS), list(DECODER_OUTPUTS), opset, strict=True)


def onnx_decoder(sam: Sam, single: bool = False) -> nn.Module:
    """segment_anything's decoder for ONNX, with two steps written so that no exporter takes a variable for a constant:
    the size of the image, and the number of prompts of which each gets its own mask."""
    import torch
    from segment_anything.utils.onnx import SamOnnxModel
    from torch.nn import functional as F

    class Decoder(SamOnnxModel):
        def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
            if not torch.jit.is_tracing():
                return super().mask_postprocessing(masks, orig_im_size)
            masks = F.interpolate(masks, size=(self.img_size, self.img_size), mode="bilinear", align_corners=False)
            height, width = self.resize_longest_image_size(orig_im_size, self.img_size)
            size = orig_im_size.to(torch.int64)
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
    import torch

    side, encoder = sam.image_encoder.img_size, sam.prompt_encoder
    return (
        torch.zeros(1, encoder.embed_dim, *encoder.image_embedding_size),
        torch.tensor([[[0.2, 0.2], [0.6, 0.5], [0.4, 0.3]]] * 2) * side,
        torch.tensor([[2.0, 3.0, 1.0]] * 2),
        torch.zeros(1, 1, *encoder.mask_input_size),
        torch.zeros(1),
        torch.tensor([0.75 * side, side]),
    )


def _export(
    model: nn.Module,
    example: tuple[Tensor, ...],
    dynamic_shapes: tuple[dict[int, str] | None, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    opset: int,
    strict: bool = False,
) -> None:
    import torch

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


def quantize(path: Path) -> Path:
    """Write `<name>.quantized.onnx` beside an exported network: weights of its products in 8 bits, inputs at run time.

    Convolutions stay as they are: the windows and depthwise ones of a TinyViT lose too much.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    written = path.with_suffix(".quantized.onnx")
    quantize_dynamic(path, written, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QUInt8)
    return written


def run(options: argparse.Namespace) -> None:
    """Write both files and say how large they are."""
    if options.opset < OLDEST_OPSET:
        raise UserError(f"--opset {options.opset}: attention can be written in opset {OLDEST_OPSET} and newer")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {printable(options.out)} is a file: give a folder")

    from projects.mobilesam.checkpoint import load_segmenter

    sam = load_segmenter(options.checkpoint, options.config).requires_grad_(False)
    options.out.mkdir(parents=True, exist_ok=True)
    exports = {
        "encoder": export_encoder,
        "decoder": partial(export_decoder, single=options.return_single_mask),
    }
    with errors_only("torch.onnx", "onnxruntime.quantization", "root"):  # the last for what quantisation advises
        for name, export in exports.items():
            path = options.out / f"{name}.onnx"
            export(sam, path, options.opset)
            for written in (path, quantize(path)) if options.quantize else (path,):
                print(f"wrote {printable(written)} ({written.stat().st_size / 2**20:.1f} MiB)", flush=True)


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


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
