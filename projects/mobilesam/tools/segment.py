"""Segment images with MobileSAM, SAM, or a model that this recipe trained.

python -m projects.mobilesam.tools.segment photo.jpg --checkpoint sam.pt --point 320,240 --out masks.png
python -m projects.mobilesam.tools.segment photo.jpg --checkpoint sam.pt --box 9,20,90,80 --box 70,5,99,90 --out a.png
python -m projects.mobilesam.tools.segment photos/ --checkpoint sam.pt --everything --out pictures/ --json masks/

What prompts mean: all points of a command belong to one object; each box is an object of its own. Points beside one
box refine that box's object; points beside several boxes are refused, for nothing says whose they are. A single point
may mean a part or the whole: of the three masks that SAM offers for it, the one with the highest predicted IoU counts,
unless --return-single-mask asks for the one mask that SAM gives for clear prompts. Coordinates are pixels of the image
as a viewer shows it (EXIF orientation applied), (0, 0) at the top left.

What is written, each of them if asked for:

--out   for the eye: the image, scaled to fit a screen, under masks and prompts
--json  the masks as COCO's run-length encodings, in the format of segment_anything's amg.py --convert-to-rle
--npz   the masks at the image's own size: masks bool [K, H, W], boxes [K, 4], predicted_iou [K]

With a folder, or several images, these are folders too, with a file for each image; an image that cannot be read is
said and passed over. Checkpoints: mobile_sam.pt is in dhkim2810/MobileSAM on Hugging Face, sam_vit_*.pth in the README
of github.com/facebookresearch/segment-anything; a training stage leaves weights.safetensors in its run folder.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
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
from common.visual import draw_masks, draw_prompts, enlarge

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from common.data.readers.sa1b import EncodedMasks
    from common.data.scene import Masks

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OUTPUTS = {"out": ".png", "json": ".json", "npz": ".npz"}
"""What can be written, and how a file of it ends in a folder."""
SCREEN = 1280  # longer side of the picture for the eye, pixels


@dataclass
class Found:
    """What was found in an image.

    Attributes:
        records: a dict per mask, as segment_anything's amg.py writes it: `segmentation` (COCO's compressed run-length
            encoding), `area`, `bbox` (x, y, width, height), `predicted_iou`, `point_coords`, `stability_score`,
            `crop_box`.
        shape: (H, W) of the image.
    """

    records: list[dict[str, Any]]
    shape: tuple[int, int]

    @cached_property
    def masks(self) -> EncodedMasks:
        """bool [K, H, W], decoded when they are asked for: a hundred masks of a photograph are a gigabyte."""
        from common.data.readers.sa1b import EncodedMasks

        return EncodedMasks([record["segmentation"] for record in self.records], self.shape)

    @property
    def iou(self) -> np.ndarray:
        """The model's own estimates of the masks' IoU with the truth, float [K]."""
        return np.array([record["predicted_iou"] for record in self.records], dtype=float)

    @property
    def boxes(self) -> np.ndarray:
        """First and last column and row of each mask, (x0, y0, x1, y1), int64 [K, 4]; zeros for an empty one."""
        corners = np.array([record["bbox"] for record in self.records], dtype=np.int64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners


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
    command.add_argument("images", type=Path, nargs="+", metavar="image", help="pictures, or folders of them")
    command.add_argument(
        "--checkpoint", type=given_path, required=True,
        help="mobile_sam.pt, sam_vit_h/l/b*.pth, or a stage's weights.safetensors",
    )  # fmt: skip
    command.add_argument(
        "--config", type=given_path,
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
        "--return-single-mask", action="store_true",
        help="answer a single point with one mask instead of the best of three",
    )  # fmt: skip
    command.add_argument("--out", type=given_path, help="the image under its masks, to look at (PNG, JPEG, WebP)")
    command.add_argument(
        "--json", type=given_path, help="the masks, run-length encoded, as amg.py --convert-to-rle writes"
    )
    command.add_argument(
        "--npz", type=given_path, help="the masks: masks bool [K, H, W], boxes [K, 4], predicted_iou [K]"
    )
    device_option(command)
    return command


def check_prompts(options: argparse.Namespace) -> None:
    """UserError where the prompts are missing or contradictory."""
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


def check_inside(options: argparse.Namespace, shape: tuple[int, int]) -> None:
    """UserError where a prompt lies outside an image (H, W)."""
    height, width = shape
    for x, y, _ in options.point:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"point {x:g},{y:g} lies outside the image ({width} x {height} pixels)")
    for corners in options.box:
        x0, y0, x1, y1 = corners
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UserError(
                f"box {','.join(f'{c:g}' for c in corners)} reaches outside the image ({width} x {height} pixels)"
            )


def outputs(options: argparse.Namespace, images: list[Path]) -> list[dict[str, Path]]:
    """The files to write for each image, by option; UserError where one cannot be written, before any work is done."""
    wanted = {name: getattr(options, name) for name in OUTPUTS if getattr(options, name)}
    if not wanted:
        raise UserError("nothing to write: give --out, --json or --npz")
    if len(images) == 1 and not options.images[0].is_dir():
        for name, path in wanted.items():
            _check_file(name, path, images[0])
        return [wanted]
    stems: dict[str, Path] = {}
    for image in images:
        if (first := stems.setdefault(image.stem, image)) is not image:
            raise UserError(
                f"{printable(first)} and {printable(image)} would have the same results' name: "
                "rename one, or run them one after the other"
            )
    for name, folder in wanted.items():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--{name} {printable(folder)} is a file: for several images give a folder")
        folder.mkdir(parents=True, exist_ok=True)
    files = [{name: folder / f"{image.stem}{OUTPUTS[name]}" for name, folder in wanted.items()} for image in images]
    for image, written in zip(images, files, strict=True):
        _check_loss(written.values(), image)
    return files


def _check_file(name: str, path: Path, image: Path) -> None:
    endings = tuple(PICTURES) if name == "out" else (OUTPUTS[name],)
    if path.suffix.lower() not in endings:
        raise UserError(f"--{name} {printable(path)}: the name must end in {', '.join(endings)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"no folder {printable(path.parent)} to write {printable(path.name)} into: create it first")
    if path.is_dir():
        raise UserError(f"{printable(path)} is a folder: give the name of a file")
    _check_loss([path], image)


def _check_loss(written: Iterable[Path], image: Path) -> None:
    for path in written:
        if path.exists() and image.exists() and path.samefile(image):
            raise UserError(f"the image itself ({printable(image)}) would be lost: choose another place to write to")


def segment(
    sam: Sam,
    image: np.ndarray,
    points: list[tuple[float, float, int]],
    boxes: list[tuple[float, ...]],
    single: bool = False,
) -> Found:
    """One mask for each object that the prompts describe.

    Args:
        image: uint8 RGB [H, W, 3].
        points: (x, y, label) of one object, 1 on it and 0 beside it.
        boxes: (x0, y0, x1, y1), an object each; with points at most one.
        single: answer a single point, too, with SAM's one mask for clear prompts, not with the best of three.
    """
    import torch
    from segment_anything import SamPredictor
    from segment_anything.utils import amg

    predictor = SamPredictor(sam)
    predictor.set_image(image)
    prompts = np.array(points, dtype=np.float32).reshape(-1, 3)
    given = {"point_coords": prompts[:, :2], "point_labels": prompts[:, 2]} if points else {}
    height, width = image.shape[:2]
    records = []
    for corners in boxes or [()]:
        masks, iou, _ = predictor.predict(
            **given,
            box=np.array(corners, dtype=np.float32) if corners else None,
            multimask_output=len(points) == 1 and not boxes and not single,
            return_logits=True,
        )
        logits = torch.from_numpy(masks[iou.argmax()])[None]
        mask = logits > sam.mask_threshold
        first_and_last = amg.batched_mask_to_box(mask)[0].tolist()
        records.append(
            {
                "segmentation": amg.coco_encode_rle(amg.mask_to_rle_pytorch(mask)[0]),
                "area": int(mask.sum()),
                "bbox": [
                    *first_and_last[:2],
                    *(b - a for a, b in zip(first_and_last, first_and_last[2:], strict=False)),
                ],
                "predicted_iou": float(iou.max()),
                "point_coords": [[x, y] for x, y, _ in points],
                "stability_score": float(amg.calculate_stability_score(logits, sam.mask_threshold, 1.0).nan_to_num(0)),
                "crop_box": [0, 0, width, height],
            }
        )
    return Found(records, (height, width))


def segment_everything(
    sam: Sam, image: np.ndarray, points_per_side: int = 32, min_iou: float = 0.88, min_stability: float = 0.95
) -> Found:
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
        output_mode="coco_rle",  # a batch's masks are encoded and given up before the next batch is asked for
    )
    return Found(sorted(generator.generate(image), key=lambda record: -record["area"]), (height, width))


def overlay(
    image: np.ndarray, masks: Masks, points: list[tuple[float, float, int]], boxes: list[tuple[float, ...]]
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


def write_npz(path: Path, found: Found) -> None:
    """masks bool [K, H, W], boxes int64 [K, 4], predicted_iou float [K]; mask after mask, never all in memory."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("masks.npy", "w", force_zip64=True) as file:
            header = {"descr": "|b1", "fortran_order": False, "shape": (len(found.records), *found.shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for k in range(len(found.records)):
                file.write(found.masks[k].tobytes())
        for name, values in (("boxes", found.boxes), ("predicted_iou", found.iou)):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values)
    write_atomic(path, content.getvalue())


def report(found: Found) -> None:
    """A line for each mask."""
    pixels = found.shape[0] * found.shape[1]
    for number, (record, corners) in enumerate(zip(found.records, found.boxes.tolist(), strict=True), 1):
        area = record["area"]
        place = f"box {','.join(map(str, corners))}" if area else "empty"
        print(
            f"mask {number}: area {area} px ({area / pixels:.1%}), {place}, predicted IoU {record['predicted_iou']:.3f}"
        )
    if not found.records:
        print("nothing found: try a lower --min-iou or --min-stability, or more --points-per-side")


def segment_file(sam: Sam, path: Path, options: argparse.Namespace, written: dict[str, Path]) -> None:
    """Segment one image, print a line per mask, write its files. UserError if it cannot be read or prompted."""
    from common.models.sam import resized_shape

    image = read_picture(path)
    height, width = image.shape[:2]
    check_inside(options, (height, width))
    side = sam.image_encoder.img_size
    if 0 in resized_shape(height, width, side):
        raise UserError(f"{printable(path)} is too narrow ({width} x {height} pixels): cut it into pieces")
    print(f"{printable(path)}: {width} x {height} pixels; {type(sam.image_encoder).__name__} at {side} on {sam.device}")
    if options.everything:
        found = segment_everything(sam, image, options.points_per_side, options.min_iou, options.min_stability)
    else:
        found = segment(sam, image, options.point, options.box, options.return_single_mask)
    report(found)
    for name, target in written.items():
        if name == "out":
            picture = BytesIO()
            drawn = Image.fromarray(overlay(image, found.masks, options.point, options.box))
            drawn.save(picture, PICTURES[target.suffix.lower()])
            write_atomic(target, picture.getvalue())
        elif name == "json":
            write_atomic(target, json.dumps(found.records).encode())
        else:
            write_npz(target, found)
        print(f"wrote {printable(target)}", flush=True)


def run(options: argparse.Namespace) -> None:
    """Segment image after image; what is wrong with one of several is said, and the others follow."""
    check_prompts(options)
    images = picture_files(options.images)
    files = outputs(options, images)
    if len(images) == 1:
        check_inside(options, read_picture(images[0]).shape[:2])  # before the model is loaded, which takes longer

    from common.models.sam_checkpoint import load_segmenter

    device = device_of(options.device)
    sam = load_segmenter(options.checkpoint, options.config).to(device)
    failed = 0
    for path, written in zip(images, files, strict=True):
        try:
            segment_file(sam, path, options, written)
        except UserError as error:
            if len(images) == 1:
                raise
            failed += 1
            print(f"passed over: {error}", file=sys.stderr, flush=True)
    if failed:
        raise UserError(f"{failed} of {len(images)} images were passed over")


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
