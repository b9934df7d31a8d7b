"""COCO's instance format, which LVIS and annotation tools write too: a JSON of polygons and run-length encodings."""

import logging
from typing import Annotated, Any

import numpy as np
from pycocotools import mask as coco_mask
from pydantic import FailFast, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.console import printable
from common.data.files import decode_rgb, files_under, is_folder, place, read_file, shown
from common.data.readers.coco_panoptic import Category, Flag
from common.data.readers.sa1b import rle_runs
from common.data.records import FileName, Id, json_file
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

log = logging.getLogger(__name__)

ABOUT = """COCO's instance format, as COCO and LVIS have it and as annotation tools export it.
  expected: a JSON with `images` (id, and file_name or coco_url) and `annotations` (image_id, segmentation)"""


@schema(config=STRICT, slots=True)
class ImageInfo:
    """LVIS says where an image of COCO is to be had, in the place of its file's name."""

    id: Id
    file_name: FileName | None = None
    coco_url: FileName | None = None


@schema(config=STRICT, slots=True)
class Annotation:
    """Its segmentation is looked at with its image: one that is broken is an unreadable sample."""

    image_id: Id
    segmentation: Any
    iscrowd: Flag = 0
    category_id: int | None = None


@schema(config=STRICT, slots=True)
class Instances:
    images: Annotated[list[ImageInfo], FailFast()]
    annotations: Annotated[list[Annotation], FailFast()]
    categories: list[Category] | None = None


class InstanceScene(Scene):
    """A scene whose masks have category names ("" where the JSON gives none), and a mark where they are crowd regions.

    Attributes:
        categories: K names.
        crowd: bool [K].
    """

    def __init__(self, image: np.ndarray, masks: np.ndarray, name: str, categories: list[str], crowd: np.ndarray):
        super().__init__(image, masks, name)
        self.categories, self.crowd = categories, crowd


class CocoInstances(SceneSource):
    """Images with masks in COCO's instance format, in the order of their ids.

    Polygons and both kinds of run-length encodings are read; images without annotations are left out, images that are
    not there with a warning.

    Args:
        images: folder that the JSON's names are relative to (that of `train2017` and `val2017` for LVIS); `$DATA_ROOT`
            is replaced.
        annotations: the JSON.
        offset: images to skip at the beginning.
        limit: images to use after these; None for all.
        shuffle: seed of a random order, in which images are skipped and taken; None for the order of ids.
        crowd: keep crowd regions.
        orient: turn images as their EXIF orientation says, as most tools show them; False as COCO annotates them.

    Raises:
        UserError: a file or a folder is missing, the JSON is of another format, or nothing is left to use.
    """

    def __init__(
        self,
        images: str,
        annotations: str,
        offset: int = 0,
        limit: int | None = None,
        shuffle: int | None = None,
        crowd: bool = False,
        orient: bool = True,
    ):
        if offset < 0 or (limit is not None and limit < 1) or (shuffle is not None and shuffle < 0):
            raise UserError(
                f"instances: offset {offset} and shuffle {shuffle} must be 0 or more, limit {limit} 1 or more"
            )
        self.folder, self.orient = expand(images, "images"), orient
        if not is_folder(self.folder):
            raise UserError(f"no folder {printable(self.folder)} of images")
        path = expand(annotations, "annotations")
        content = json_file(path, TypeAdapter(Instances), ABOUT)
        names: dict[int | None, str] = {kind.id: kind.name for kind in content.categories or []}
        files = {image.id: image.file_name or image.coco_url for image in content.images}
        if len(files) < len(content.images):
            raise UserError(f"{printable(path)} gives several images the same id.\n{ABOUT}")
        if nameless := [key for key, name in files.items() if name is None]:
            raise UserError(f"{printable(path)} does not say which file image {nameless[0]} is.\n{ABOUT}")
        found: dict[int | str, list[Annotation]] = {}
        for annotation in content.annotations:
            if crowd or not annotation.iscrowd:
                found.setdefault(annotation.image_id, []).append(annotation)
        there = files_under(self.folder)
        annotated = sorted((key for key in found if key in files), key=lambda key: (isinstance(key, str), key))
        present = {key: name for key in annotated if (name := place(files[key] or "", there))}
        if len(present) < len(annotated):
            log.warning("%d of the %d annotated images are in %s", len(present), len(annotated), printable(self.folder))
        ordered = list(present)
        if shuffle is not None:
            ordered = [ordered[k] for k in np.random.default_rng(shuffle).permutation(len(ordered))]
        chosen = ordered[offset:][:limit]
        if not chosen:
            raise UserError(
                f"{printable(path)}: of {len(files)} images {len(annotated)} are annotated and {len(present)} are in "
                f"{printable(self.folder)}; offset {offset}, limit {limit} leave none of them"
            )
        self._files = [present[key] for key in chosen]
        self._annotations = [
            [(entry.segmentation, names.get(entry.category_id, ""), bool(entry.iscrowd)) for entry in found[key]]
            for key in chosen
        ]
        self._path = path

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> InstanceScene:
        """Image and masks in the order of the JSON, but empty ones. UnreadableSample for what is broken."""
        file = self._files[index]
        image = decode_rgb(read_file(self.folder / file), printable(self.folder / file), orient=self.orient)
        shape = (image.shape[0], image.shape[1])
        try:
            decoded = [decode_segmentation(segmentation, shape) for segmentation, _, _ in self._annotations[index]]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            said = f"segmentation of {printable(file)}: {shown(str(error), 200)}"
            raise UnreadableSample(printable(self._path), said) from error
        kept = [(mask, name, crowd) for mask, (_, name, crowd) in zip(decoded, self._annotations[index], strict=True)]
        kept = [entry for entry in kept if entry[0].any()]
        masks = np.array([mask for mask, _, _ in kept], dtype=bool).reshape(-1, *shape)
        crowd = np.array([crowd for _, _, crowd in kept], dtype=bool)
        return InstanceScene(image, masks, file, [name for _, name, _ in kept], crowd)


def decode_segmentation(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """A `segmentation` of COCO's as bool [H, W]: polygons, or a run-length encoding, compressed or not.

    Raises:
        ValueError: of another size, or neither of these.
    """
    height, width = shape
    if isinstance(segmentation, list):
        rings = [np.asarray(ring, dtype=np.float64) for ring in segmentation]
        if not rings or any(ring.ndim != 1 or len(ring) < 6 or len(ring) % 2 for ring in rings):
            raise ValueError("a polygon is a list of three or more x, y")
        if not all(np.isfinite(ring).all() and np.abs(ring).max() < 1e6 for ring in rings):
            raise ValueError("a polygon's coordinates are no pixels")
        encoded = coco_mask.merge(coco_mask.frPyObjects([ring.tolist() for ring in rings], height, width))
    else:
        counts = segmentation["counts"]
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"a mask is {segmentation['size']}, the image {[height, width]}")
        if isinstance(counts, list) and not all(type(run) is int for run in counts):
            raise ValueError("broken run-length encoding: its counts are no whole numbers")
        runs = np.asarray(counts, dtype=np.int64) if isinstance(counts, list) else rle_runs(counts)
        # pycocotools trusts its input: it reads and writes past its buffers where this does not hold
        if runs.ndim != 1 or not len(runs) or runs.min() < 0 or runs.sum() != height * width:
            raise ValueError(f"broken run-length encoding: it does not cover {height * width} pixels")
        encoded = {"size": [height, width], "counts": counts}
        if isinstance(counts, list):
            encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return coco_mask.decode(encoded).astype(bool)
