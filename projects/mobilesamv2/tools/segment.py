"""Segment everything in pictures: a detector says where, and SAM's decoder draws one mask for each of its boxes.

python -m projects.mobilesamv2.tools.segment photo.jpg --everything --detector detector/weights.safetensors \\
  --checkpoint mobile_sam.pt --out masks.png
python -m projects.mobilesamv2.tools.segment photos/ --everything --detector detector/weights.safetensors \\
  --checkpoint sam_vit_h_4b8939.pth --encoder l2.pt --out pictures/ --coco masks.json
python -m projects.mobilesamv2.tools.segment photo.jpg --box 9,20,90,80 --checkpoint mobile_sam.pt --out masks.png

Without --detector, --everything asks about a grid of points (--grid) and filters what comes back, as SAM does: slower,
and no detector is needed. --box takes boxes of one's own instead, pixels of the picture as a viewer shows it.

What is written, each of it if asked for:

--out   for the eye: the picture, scaled to fit a screen, under its masks; for a folder a folder of them
--coco  all masks of all pictures in one file, COCO's instance format: run-length encodings, boxes, areas and scores
        (the detector's confidence, or the predicted IoU), of one category, "object"

A picture that cannot be read is said and passed over, unless it is the only one. The detector is what the stages
`detector_boxes` and `detector_masks` of this recipe leave in their run folders: give the folder, or the
weights.safetensors in it with its config.yaml beside it.
--checkpoint is mobile_sam.pt, sam_vit_*.pth or a foundation's weights; --encoder, if another image encoder is to stand
before that decoder, EfficientViT-SAM's l2.pt.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from common.console import printable
from common.data.files import write_atomic
from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path
from common.visual import draw_masks, enlarge

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from projects.mobilesamv2.detector import ObjectDetector
    from projects.mobilesamv2.propose import Proposals

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SCREEN = 1280  # longer side of the picture for the eye, pixels
DETECTING: dict[str, Any] = {"confidence": 0.4, "overlap": 0.9, "most": 320}
"""Options of the detector and what they are if not given: the official code's, and the paper's number of boxes."""


def box(text: str) -> tuple[float, ...]:
    """'x0,y0,x1,y1' -> numbers."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or not (0 <= numbers[0] < numbers[2] < 1e6 and 0 <= numbers[1] < numbers[3] < 1e6):
        raise UserError(f"'{text}' is no box: write x0,y0,x1,y1 with x0 < x1 and y0 < y1")
    return numbers


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"'{text}' is no share: write a number from 0 to 1")
    return number


def count(text: str) -> int:
    """A whole number from 1 to 1024."""
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= 1024:
        raise UserError(f"'{text}' is no such number: write a whole one from 1 to 1024")
    return int(text)


def stage_weights(text: str) -> Path:
    """A stage's `weights.safetensors`, or its run folder -> the file."""
    path = given_path(text)
    return path / "weights.safetensors" if path.is_dir() else path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.mobilesamv2.tools.segment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="image", help="pictures, or folders of them")
    command.add_argument("--checkpoint", type=stage_weights, required=True, help="SAM's weights, of any of its sizes")
    command.add_argument("--config", type=given_path, help="a stage's config.yaml with the sizes of these weights")
    command.add_argument("--encoder", type=given_path, help="EfficientViT-SAM's l2.pt, in its image encoder's place")
    command.add_argument("--everything", action="store_true", help="find all objects")
    command.add_argument(
        "--detector",
        type=stage_weights,
        help="a detector's run folder, or its weights.safetensors: its boxes are prompts",
    )
    command.add_argument("--confidence", type=share, help="least score of a box (default: 0.4)")
    command.add_argument("--overlap", type=share, help="of two boxes that overlap more one stays (default: 0.9)")
    command.add_argument("--most", type=count, help="boxes of a picture (default: 320)")
    command.add_argument("--grid", type=count, help="points of the grid's side, without a detector (default: 32)")
    command.add_argument(
        "--box", type=box, action="append", default=[], metavar="X0,Y0,X1,Y1", help="an object; repeat"
    )
    command.add_argument("--out", type=given_path, help="the picture under its masks (PNG, JPEG, WebP), or a folder")
    command.add_argument("--coco", type=given_path, help="all masks, in COCO's instance format (JSON)")
    device_option(command)
    return command


def check(options: argparse.Namespace, images: list[Path]) -> list[Path | None]:
    """Where each picture's drawing goes; UserError for options that contradict each other, before any work is done."""
    if options.everything == bool(options.box):
        raise UserError("say what to segment: either --everything, or boxes of your own with --box x0,y0,x1,y1")
    if options.box and options.detector:
        raise UserError("--box and --detector both say where: leave one of them out")
    if options.out is None and options.coco is None:
        raise UserError("nothing to write: give --out, --coco or both")
    heeded = () if options.box else DETECTING if options.detector else ("grid",)
    for name in (*DETECTING, "grid"):
        if getattr(options, name) is not None and name not in heeded:
            what = "--everything with a --detector" if name in DETECTING else "--everything without a --detector"
            raise UserError(f"--{name} goes with {what} and would change nothing here: leave it out")
    # drawings are called as pictures are, but for the ending; the JSON has whole names
    names = sorted(image.name if options.out is None else image.stem for image in images)
    if twice := [name for name, after in zip(names, names[1:], strict=False) if name == after]:
        raise UserError(f"several pictures are called {printable(twice[0])}: run them one after the other")
    if options.coco is not None:
        if options.coco.suffix.lower() != ".json" or options.coco.is_dir():
            raise UserError(f"--coco {printable(options.coco)}: give the name of a file that ends in .json")
        _parent(options.coco)
    if options.out is None:
        return [None] * len(images)
    if len(images) == 1 and not options.images[0].is_dir():
        if options.out.suffix.lower() not in PICTURES or options.out.is_dir():
            raise UserError(f"--out {printable(options.out)}: the name must end in {', '.join(PICTURES)}")
        _parent(options.out)
        if options.out.exists() and options.out.samefile(images[0]):
            raise UserError(f"the picture itself ({printable(images[0])}) would be lost: choose another --out")
        return [options.out]
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {printable(options.out)} is a file: for several pictures give a folder")
    files = [options.out / f"{image.stem}.png" for image in images]
    for image, file in zip(images, files, strict=True):
        if file.exists() and file.samefile(image):
            raise UserError(f"the picture itself ({printable(image)}) would be lost: choose another --out")
    options.out.mkdir(parents=True, exist_ok=True)
    return list(files)


def _parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise UserError(f"no folder {printable(path.parent)} to write {printable(path.name)} into: create it first")


def load(options: argparse.Namespace) -> tuple[Sam, ObjectDetector | None]:
    """The networks, on the device that was asked for."""
    from common.models.sam_checkpoint import load_segmenter
    from common.training.weights import load_state
    from projects.mobilesamv2.efficientvit import EfficientVitConfig, EfficientVitEncoder
    from projects.mobilesamv2.models import load_encoder, read_detector

    device = device_of(options.device)
    sam = load_segmenter(options.checkpoint, options.config)
    if options.encoder is not None:
        sam.image_encoder = EfficientVitEncoder(EfficientVitConfig(image_size=sam.image_encoder.img_size)).eval()
        load_encoder(sam, load_state(options.encoder))
    detector = None if options.detector is None else read_detector(options.detector, sam.image_encoder.img_size)
    return sam.requires_grad_(False).to(device), detector if detector is None else detector.to(device)


def segment(sam: Sam, detector: ObjectDetector | None, image: np.ndarray, options: argparse.Namespace) -> Proposals:
    """The masks of one picture, uint8 [H, W, 3]."""
    import torch

    from common.data.prompts import box_prompts
    from common.models.sam import preprocess, resized_shape, scale_boxes
    from projects.mobilesamv2.propose import Filters, grid_points, propose

    side, shape = sam.image_encoder.img_size, (image.shape[0], image.shape[1])
    if 0 in resized_shape(*shape, side):
        raise UserError(f"a picture of {shape[1]} x {shape[0]} pixels is too narrow: cut it into pieces")
    for corners in options.box:
        if corners[2] > shape[1] or corners[3] > shape[0]:
            said = ",".join(f"{number:g}" for number in corners)
            raise UserError(f"box {said} reaches outside the picture ({shape[1]} x {shape[0]} pixels)")
    pixels, size = preprocess(image, side)
    # full-size masks of a chunk of prompts, four bytes a pixel: 256 megapixels are a gigabyte
    fits = max(1, 2**28 // (shape[0] * shape[1]))
    with torch.no_grad():
        images = pixels[None].to(sam.device)
        embedding = sam.image_encoder(images)
        if options.box:
            prompts = box_prompts(scale_boxes(np.array(options.box), shape, side))
            return propose(sam, embedding, prompts, size, shape, chunk=min(320, fits))
        if detector is None:
            prompts = grid_points(options.grid or 32, shape, side)
            chunk = min(64, max(1, fits // 3))
            return propose(sam, embedding, prompts, size, shape, 3, filters=Filters(), chunk=chunk)
        given = {name: value for name in DETECTING if (value := getattr(options, name)) is not None}
        [found] = detector.detect(images, [size], **DETECTING | given)
        prompts = box_prompts(found.boxes.cpu().numpy())
        return propose(sam, embedding, prompts, size, shape, scores=found.scores, chunk=min(320, fits))


def records(found: Proposals, image: int, first: int) -> list[dict[str, Any]]:
    """COCO's annotations of image number `image`, with ids from `first` on; masks without a pixel are none."""
    from pycocotools import mask as coco_mask

    drawn = [pair for pair in zip(found.masks, found.scores.tolist(), strict=True) if coco_mask.area(pair[0])]
    return [
        {
            "id": first + k, "image_id": image, "category_id": 1, "iscrowd": 0, "score": round(float(score), 5),
            "segmentation": {"size": [int(n) for n in mask["size"]], "counts": mask["counts"].decode()},
            "bbox": coco_mask.toBbox(mask).tolist(), "area": int(coco_mask.area(mask)),
        }
        for k, (mask, score) in enumerate(drawn)
    ]  # fmt: skip


def overlay(image: np.ndarray, found: Proposals) -> np.ndarray:
    """The picture under its masks, the largest below the others, as large as a screen shows it."""
    from pycocotools import mask as coco_mask

    picture, _ = enlarge(image, SCREEN)
    ordered = sorted(found.masks, key=lambda mask: -int(coco_mask.area(mask)))
    # at the picture's size for the eye: a hundred masks of a photograph are a gigabyte
    small = [
        Image.fromarray(coco_mask.decode(mask)).resize(picture.shape[1::-1], Image.Resampling.NEAREST)
        for mask in ordered
    ]
    return draw_masks(picture, np.array(small, dtype=bool).reshape(-1, *picture.shape[:2]))


def run(options: argparse.Namespace) -> None:
    """Segment picture after picture; what is wrong with one of several is said, and the others follow."""
    images = picture_files(options.images)
    drawings = check(options, images)
    sam, detector = load(options)
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    failed = 0
    for number, (path, drawing) in enumerate(zip(images, drawings, strict=True), 1):
        try:
            image = read_picture(path)
            found = segment(sam, detector, image, options)
        except UserError as error:
            if len(images) == 1:
                raise
            failed += 1
            print(f"passed over: {printable(path)}: {error}", file=sys.stderr, flush=True)
            continue
        height, width = image.shape[:2]
        print(f"{printable(path)}: {width} x {height} pixels, {len(found.masks)} masks of {found.prompts} prompts")
        content["images"].append({"id": number, "file_name": path.name, "height": height, "width": width})
        content["annotations"] += records(found, number, len(content["annotations"]) + 1)
        if drawing is not None:
            encoded = BytesIO()
            Image.fromarray(overlay(image, found)).save(encoded, PICTURES[drawing.suffix.lower()])
            write_atomic(drawing, encoded.getvalue())
            print(f"wrote {printable(drawing)}", flush=True)
    if options.coco is not None:
        write_atomic(options.coco, json.dumps(content).encode())
        print(f"wrote {printable(options.coco)}: {len(content['annotations'])} masks")
    if failed:
        raise UserError(f"{failed} of {len(images)} pictures were passed over")


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
