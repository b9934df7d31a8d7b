"""COCO's panoptic format: a JSON that lists segments, and a PNG per image whose colours are their ids."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from common.data.files import decode_rgb, read_file
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)

ABOUT = """COCO 2017 with panoptic annotations (annotations CC BY 4.0, images under their Flickr licences).
  from: cocodataset.org, "2017 Train/Val images" and "2017 Panoptic Train/Val annotations"
  expected: images/{train,val}2017/*.jpg or {train,val}2017/*.jpg;
    and, in panoptic_segmentation/annotations/ or annotations/, panoptic_{train,val}2017.json
    and a folder panoptic_{train,val}2017/ of PNGs (zipped inside the download)"""


@dataclass
class CocoScene(Scene):
    """A scene whose masks have category names ("person", "sky-other-merged"), K of them."""

    categories: list[str]


class CocoPanoptic(SceneSource):
    """Images of COCO that have panoptic annotations, by image id; a mask per segment, never overlapping.

    Crowd regions are left out. Images or PNGs that are not there are left out with a warning, so that a part of COCO
    works with the full JSON.

    Args:
        root: folder of the data set; `$DATA_ROOT` is replaced.
        split: "train" or "val".
        annotations: folder, under `root`, of the panoptic JSON and PNGs; COCO's own `annotations` is tried as well.
        images: folder, under `root`, of `train2017` and `val2017`; `root` itself, as COCO has it, is tried as well.
        min_area: smallest segment, as a fraction of the image's pixels.
        things_only: leave out "stuff" (sky, grass, wall).
        longest_side: larger images and their masks are shrunk to this side, pixels; None keeps them.
        offset: images to skip at the beginning.
        limit: images to use after these; None for all.

    Raises:
        UserError: folder or annotations missing or unreadable, or a selection that is empty.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val"] = "train",
        annotations: str = "panoptic_segmentation/annotations",
        images: str = "images",
        min_area: float = 0.001,
        things_only: bool = False,
        longest_side: int | None = None,
        offset: int = 0,
        limit: int | None = None,
    ):
        self.min_area, self.longest_side = min_area, longest_side
        folder = expand(root, "root of COCO")
        index = _existing([folder / a / f"panoptic_{split}2017.json" for a in (annotations, "annotations")])
        self._pngs = _existing([index.with_suffix("")])
        self._images = _existing([folder / images / f"{split}2017", folder / f"{split}2017"])

        content = _load(index)
        self._categories = {c["id"]: c["name"] for c in content["categories"] if c["isthing"] or not things_only}
        files = {image["id"]: image["file_name"] for image in content["images"]}
        present = {file.name for where in (self._images, self._pngs) for file in where.iterdir()}
        entries = sorted(content["annotations"], key=lambda entry: entry["image_id"])
        entries = [entry for entry in entries if entry["image_id"] in files]
        usable = [e for e in entries if e["file_name"] in present and files[e["image_id"]] in present]
        if not usable:
            raise UserError(
                f"none of the {len(entries)} images in {index} is in {self._images}, its PNG in {self._pngs}: {ABOUT}"
            )
        if len(usable) < len(entries):
            log.warning("%d of the %d annotated images are in %s", len(usable), len(entries), self._images)
        if not (usable := usable[offset:][:limit]):
            raise UserError(f"COCO: offset {offset}, limit {limit} leave nothing of the images in {self._images}")

        # the segments of all images in one array: forked workers share it, spawned ones receive it quickly
        kept = [
            [
                (s["id"], s["category_id"])
                for s in e["segments_info"]
                if not s.get("iscrowd") and s["category_id"] in self._categories
            ]
            for e in usable
        ]
        self._files = [(files[entry["image_id"]], entry["file_name"]) for entry in usable]
        self._segments = np.array([segment for segments in kept for segment in segments], np.int32).reshape(-1, 2)
        self._starts = np.cumsum([0] + [len(segments) for segments in kept])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> CocoScene:
        """Image and masks in the order of the JSON. Raises UnreadableSample for a broken JPEG or PNG."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file, png = self._files[index]
        path = self._images / file
        image = decode_rgb(read_file(path), path)
        colours = decode_rgb(read_file(self._pngs / png), self._pngs / png)
        if colours.shape != image.shape:
            raise UnreadableSample(self._pngs / png, f"is {colours.shape[:2]} pixels, its image {image.shape[:2]}")
        if self.longest_side is not None and max(image.shape) > self.longest_side:
            shrunk = Image.fromarray(image)
            shrunk.thumbnail((self.longest_side, self.longest_side), Image.Resampling.BILINEAR)
            image = np.array(shrunk)
            colours = np.array(Image.fromarray(colours).resize(shrunk.size, Image.Resampling.NEAREST))
        ids = colours.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        segments = self._segments[self._starts[index] : self._starts[index + 1]]
        masks = ids == segments[:, 0, None, None]
        large = np.count_nonzero(masks, axis=(1, 2)) >= max(1, self.min_area * ids.size)
        categories = [self._categories[category] for category in segments[large, 1].tolist()]
        return CocoScene(image, masks[large], Path(file).stem, categories)

    @property
    def names(self) -> list[str]:
        """What an `ArrayStore` of features of these images checks its rows against."""
        return [Path(file).stem for file, _ in self._files]


def _existing(candidates: list[Path]) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise UserError(f"no {' and no '.join(map(str, dict.fromkeys(candidates)))} for {ABOUT}")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is truncated or damaged ({error}): download it again") from error
    lacks = {"images", "annotations", "categories"} - set(content if isinstance(content, dict) else ())
    if not lacks and content["annotations"] and "segments_info" not in content["annotations"][0]:
        lacks = {"segments_info"}
    if lacks:
        raise UserError(f"{path} is not a panoptic JSON (without {', '.join(sorted(lacks))}): {ABOUT}")
    return content
