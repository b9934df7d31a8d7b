"""Segment an image with MobileSAM, SAM, or a model that this recipe trained.

python -m projects.mobilesam.tools.segment photo.jpg --checkpoint sam.pt --point 320,240 --out masks.png
python -m projects.mobilesam.tools.segment photo.jpg --checkpoint sam.pt --box 9,20,90,80 --box 70,5,99,90 --out a.png
python -m projects.mobilesam.tools.segment photo.jpg --checkpoint sam.pt --everything --out masks.png --npz masks.npz

What prompts mean: all points of a command belong to one object; each box is an object of its own. Points beside one
box refine that box's object; points beside several boxes are refused, for nothing says whose they are. A single point
may mean a part or the whole: of the three masks that SAM offers for it, the one with the highest predicted IoU counts.
Coordinates are pixels of the image as a viewer shows it (EXIF orientation applied), (0, 0) at the top left.

--out is for the eye: the image, scaled to fit a screen, under masks and prompts; --npz holds the masks at its own size.
Checkpoints: mobile_sam.pt is in dhkim2810/MobileSAM on Hugging Face, sam_vit_*.pth in the README of
github.com/facebookresearch/segment-anything; a training stage leaves weights.safetensors in its run folder.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.visual import draw_masks, draw_prompts, enlarge

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SCREEN = 1280  # longer side of the picture for the eye, pixels


@dataclass
class Masks:
    """What was found: masks bool [K, H, W] and the model's own estimates of their IoU with the truth, float [K]."""

    masks: np.ndarray
    iou: np.ndarray


def point(text: str) -> tuple[float, float, int]:
    """'x,y' or 'x,y,label' -> (x, y, label)."""
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise UserError(f"'{text}' is no point: write x,y for the object or x,y,0 for the background")
    return numbers[0], numbers[1], int(numbers[2]) if len(numbers) == 3 else 1


def box(text: str) -> tuple[float, ...]:
    """'x0,y0,x1,y1' -> numbers."""
    numbers = _numbers(text)
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise UserError(f"'{text}' is no box: write x0,y0,x1,y1 with x0 < x1 and y0 < y1")
    return numbers


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.mobilesam.tools.segment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("image", type=Path, help="a JPEG, PNG or other picture")
    command.add_argument(
        "--checkpoint", type=Path, required=True,
        help="mobile_sam.pt, sam_vit_h/l/b*.pth, or a stage's weights.safetensors",
    )  # fmt: skip
    command.add_argument(
        "--config", type=Path,
        help="sizes of the model: a stage's config.yaml (default: the one beside a safetensors file, "
        "else the published sizes)",
    )  # fmt: skip
    command.add_argument(
        "--point", type=point, action="append", default=[], metavar="X,Y[,0]",
        help="a point on the object, or, with ,0, on the background; repeatable: all points are one object",
    )  # fmt: skip
    command.add_argument(
        "--box", type=box, action="append", default=[], metavar="X0,Y0,X1,Y1",
        help="left, top, right and bottom of an object; repeatable: each box is another object",
    )  # fmt: skip
    command.add_argument("--everything", action="store_true", help="find all objects, without prompts")
    command.add_argument(
        "--points-per-side", type=int, default=32, help="of the grid of points for --everything (default: 32)"
    )
    command.add_argument(
        "--min-iou", type=float, default=0.88, help="of the masks that --everything keeps, as predicted (default: 0.88)"
    )
    command.add_argument(
        "--min-stability", type=float, default=0.95,
        help="of the same masks: IoU under a stricter and a laxer threshold (default: 0.95)",
    )  # fmt: skip
    command.add_argument(
        "--out", type=Path, required=True, help="the image under its masks, to look at (PNG, JPEG, WebP)"
    )
    command.add_argument(
        "--npz", type=Path, help="also the masks themselves: masks bool [K, H, W], boxes [K, 4], predicted_iou [K]"
    )
    command.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU, else cpu")
    return command


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned as its EXIF orientation says. OSError if missing, UserError if it is no image."""
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode[0] in "IF":  # Pillow would turn all but the darkest of their greys into white
                raise ValueError(f"{image.mode} pixels of 16 or 32 bits: save it with 8 bits per channel")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(
            f"{path} cannot be decoded as an image ({error}): give a JPEG, PNG or another picture"
        ) from error


def check_prompts(options: argparse.Namespace, image: np.ndarray) -> None:
    """UserError where the prompts are missing, contradictory, or outside the image."""
    height, width = image.shape[:2]
    if options.everything:
        if options.point or options.box:
            raise UserError("--everything takes no prompts: leave out --point and --box, or --everything")
        if options.points_per_side < 1:
            raise UserError(f"--points-per-side is {options.points_per_side}: at least 1 is needed")
        return
    if not options.point and not options.box:
        raise UserError("nothing says what to segment: give --point x,y, --box x0,y0,x1,y1, or --everything")
    if options.point and len(options.box) > 1:
        raise UserError(
            f"points beside {len(options.box)} boxes: which object do they belong to? "
            "Give one box with its points per command, or boxes alone"
        )
    if not options.box and not any(label for _, _, label in options.point):
        raise UserError("all points are background (,0): add a point or a box of the object itself")
    for x, y, _ in options.point:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"point {x:g},{y:g} lies outside the image ({width} x {height} pixels)")
    for corners in options.box:
        x0, y0, x1, y1 = corners
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UserError(
                f"box {','.join(f'{c:g}' for c in corners)} reaches outside the image ({width} x {height} pixels)"
            )


def check_outputs(options: argparse.Namespace) -> None:
    """UserError where a result cannot be written, before any work is done."""
    if options.out.suffix.lower() not in PICTURES:
        raise UserError(f"--out {options.out}: the name must end in {', '.join(PICTURES)}")
    if options.npz and options.npz.suffix != ".npz":
        raise UserError(f"--npz {options.npz}: the name must end in .npz")
    for path in filter(None, (options.out, options.npz)):
        if not path.absolute().parent.is_dir():
            raise UserError(f"no folder {path.parent} to write {path.name} into: create it first")
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the name of a file")
    if options.out.exists() and options.image.exists() and options.out.samefile(options.image):
        raise UserError(f"--out is the image itself ({options.image}), which would be lost: choose another name")


def segment(
    sam: Sam,
    image: np.ndarray,
    points: list[tuple[float, float, int]],
    boxes: list[tuple[float, ...]],
) -> Masks:
    """One mask for each object that the prompts describe.

    Args:
        image: uint8 RGB [H, W, 3].
        points: (x, y, label) of one object, 1 on it and 0 beside it.
        boxes: (x0, y0, x1, y1), an object each; with points at most one.
    """
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.set_image(image)
    prompts = np.array(points, dtype=np.float32).reshape(-1, 3)
    given = {"point_coords": prompts[:, :2], "point_labels": prompts[:, 2]} if points else {}
    found = []
    for corners in boxes or [()]:
        masks, iou, _ = predictor.predict(
            **given,
            box=np.array(corners, dtype=np.float32) if corners else None,
            multimask_output=len(points) == 1 and not boxes,
        )
        found.append((masks[iou.argmax()], iou.max()))
    return Masks(np.stack([mask for mask, _ in found]), np.array([iou for _, iou in found]))


def segment_everything(
    sam: Sam, image: np.ndarray, points_per_side: int = 32, min_iou: float = 0.88, min_stability: float = 0.95
) -> Masks:
    """SAM's automatic mask generation: a grid of points, filtered; the largest masks first, perhaps none."""
    from segment_anything import SamAutomaticMaskGenerator

    height, width = image.shape[:2]
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=points_per_side,
        # three float masks per point at the image's own size: 64 points of a 12-megapixel photograph would take 9 GB
        points_per_batch=min(64, max(1, 2**26 // (height * width))),
        pred_iou_thresh=min_iou,
        stability_score_thresh=min_stability,
    )
    found = sorted(generator.generate(image), key=lambda record: -record["area"])
    masks = np.array([record["segmentation"] for record in found], dtype=bool).reshape(-1, height, width)
    return Masks(masks, np.array([record["predicted_iou"] for record in found]))


def overlay(
    image: np.ndarray, masks: np.ndarray, points: list[tuple[float, float, int]], boxes: list[tuple[float, ...]]
) -> np.ndarray:
    """The image with masks and prompts drawn over it, scaled to fit a screen: uint8 [h, w, 3].

    Small images grow by a whole factor, large ones shrink, so that dots and frames can always be seen.
    """
    picture, scale = enlarge(image, SCREEN)
    prompts = np.array(points, dtype=float).reshape(-1, 3)
    objects = len(boxes) or min(len(points), 1)
    coords = np.broadcast_to((prompts[:, :2] + 0.5) * scale - 0.5, (objects, len(points), 2))
    labels = np.broadcast_to(prompts[:, 2], (objects, len(points)))
    frames = (np.array(boxes) + 0.5) * scale - 0.5 if boxes else None
    return draw_prompts(draw_masks(picture, masks), coords, frames, labels)


def run(options: argparse.Namespace) -> None:
    """Segment, print a line per mask, write the files."""
    image = read_image(options.image)
    check_prompts(options, image)
    check_outputs(options)

    import torch

    from common.data.prompts import tight_boxes
    from common.models.sam import resized_shape
    from projects.mobilesam.checkpoint import load_segmenter

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave --device out to run on the CPU")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    sam = load_segmenter(options.checkpoint, options.config).to(device)
    height, width = image.shape[:2]
    side = sam.image_encoder.img_size
    if 0 in resized_shape(height, width, side):
        raise UserError(f"{options.image} is too narrow ({width} x {height} pixels): cut it into pieces")
    print(f"{options.image}: {width} x {height} pixels; {type(sam.image_encoder).__name__} at {side} on {sam.device}")
    if options.everything:
        found = segment_everything(sam, image, options.points_per_side, options.min_iou, options.min_stability)
    else:
        found = segment(sam, image, options.point, options.box)

    boxes = np.zeros((len(found.masks), 4))
    shown = found.masks.any((1, 2))
    boxes[shown] = tight_boxes(found.masks[shown])
    for number, (mask, corners, iou) in enumerate(zip(found.masks, boxes, found.iou, strict=True), 1):
        place = "box " + ",".join(f"{c:.0f}" for c in corners) if mask.any() else "empty"
        print(f"mask {number}: area {mask.sum()} px ({mask.mean():.1%}), {place}, predicted IoU {iou:.3f}")
    if not len(found.masks):
        print("nothing found: try a lower --min-iou or --min-stability, or more --points-per-side")

    picture = BytesIO()
    drawn = Image.fromarray(overlay(image, found.masks, options.point, options.box))
    drawn.save(picture, PICTURES[options.out.suffix.lower()])
    write_atomic(options.out, picture.getvalue())
    print(f"wrote {options.out}")
    if options.npz:
        raw = BytesIO()
        np.savez_compressed(raw, masks=found.masks, boxes=boxes.astype(np.int64), predicted_iou=found.iou)
        write_atomic(options.npz, raw.getvalue())
        print(f"wrote {options.npz}")


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
