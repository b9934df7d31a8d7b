"""Export a detector, an image encoder and SAM's mask decoder to ONNX: all that segmenting everything needs.

python -m projects.mobilesamv2.tools.export --detector detector/weights.safetensors --checkpoint sam.pt --out onnx

detector.onnx
  images  float32 [B, 3, S, S], as the encoder's: RGB, longer side scaled to S, normalised, zeros at right and bottom
  -> boxes   float32 [B, L, 4]: x0, y0, x1, y1 in that frame, of each of L places
  -> scores  float32 [B, L]
  What remains to be done: drop scores below 0.4 and, of boxes whose IoU exceeds 0.9, the lower score; keep 320; move
  sides nearer than 20 pixels (of 1024) to the border of the picture onto it.
encoder.onnx   images -> image_embeddings [B, C, S/16, S/16]
decoder.onnx   segment_anything's interface, for any number N of boxes at once: image_embeddings [1, C, S/16, S/16],
  point_coords [N, 2, 2] (a box's corners) with point_labels [N, 2] of 2 and 3, mask_input (zeros), has_mask_input (0),
  orig_im_size -> masks [N, 1, height, width] (a mask is where they exceed 0), iou_predictions, low_res_masks
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.mobilesamv2.tools.segment import stage_weights

if TYPE_CHECKING:
    from projects.mobilesamv2.detector import ObjectDetector


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.mobilesamv2.tools.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--detector", type=stage_weights, required=True, help="a detector's run folder or weights")
    command.add_argument("--checkpoint", type=stage_weights, required=True, help="SAM's weights, of any of its sizes")
    command.add_argument("--config", type=given_path, help="a stage's config.yaml with the sizes of these weights")
    command.add_argument("--out", type=given_path, required=True, help="folder for the three files")
    return command


def export_detector(detector: ObjectDetector, path: Path) -> None:
    """Write the detector, up to scored boxes of all places, for batches of any size."""
    import torch
    from torch import Tensor, nn

    from common.models.sam_onnx import DEFAULT_OPSET, export

    side = detector.config.image_size

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector
            anchors = detector.places(torch.zeros(1, 3, side, side))
            self.register_buffer("middles", (anchors[:, :2] + anchors[:, 2:]) / 2)
            self.register_buffer("sizes", (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2))

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            said = self.detector.fcos.head(list(self.detector.features(images).values()))
            reach = said["bbox_regression"] * self.sizes  # left, top, right and bottom of the place
            boxes = torch.cat([self.middles - reach[..., :2], self.middles + reach[..., 2:]], -1).clamp(0, side)
            return boxes, (said["cls_logits"].sigmoid() * said["bbox_ctrness"].sigmoid()).sqrt()[..., 0]

    example = (torch.zeros(2, 3, side, side),)
    export(Places().eval(), example, ({0: "batch"},), path, ["images"], ["boxes", "scores"], DEFAULT_OPSET)


def run(options: argparse.Namespace) -> None:
    """Write the three files and say how large they are."""
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {printable(options.out)} is a file: give a folder")

    from common.models.sam_checkpoint import load_segmenter
    from common.models.sam_onnx import errors_only, export_decoder, export_encoder
    from projects.mobilesamv2.models import read_detector

    sam = load_segmenter(options.checkpoint, options.config).requires_grad_(False)
    detector = read_detector(options.detector, sam.image_encoder.img_size)
    options.out.mkdir(parents=True, exist_ok=True)
    with errors_only("torch.onnx"):
        export_detector(detector, options.out / "detector.onnx")
        export_encoder(sam, options.out / "encoder.onnx")
        export_decoder(sam, options.out / "decoder.onnx", single=True)
    for name in ("detector", "encoder", "decoder"):
        path = options.out / f"{name}.onnx"
        print(f"wrote {printable(path)} ({path.stat().st_size / 2**20:.1f} MiB)")


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
