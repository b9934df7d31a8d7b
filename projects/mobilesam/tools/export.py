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
import sys
from functools import partial
from pathlib import Path

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path

DEFAULT_OPSET = 18  # the oldest that torch's present exporter writes; older ones come from its tracing one
OLDEST_OPSET = 14  # the oldest in which that one can write attention


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

    from common.models.sam_checkpoint import load_segmenter
    from common.models.sam_onnx import errors_only, export_decoder, export_encoder

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


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
