"""Images of one's own: with masks in COCO's instance format or as PNGs, or, to distil on, without any."""

import logging
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from pydantic import FailFast, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.console import printable
from common.data.files import decode_rgb, files_under, is_folder, place, read_file, shown
from common.data.pictures import picture_files
from common.data.readers.coco_panoptic import Flag, ImageInfo
from common.data.readers.sa1b import rle_runs
from common.data.records import Id, json_file
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

log = logging.getLogger(__name__)

ABOUT = """COCO's instance format, as COCO has it and as annotation tools export it.
  expected: a JSON with `images` (id, file_name) and `annotations` (image_id, segmentation)"""


@schema(config=STRICT, slots=True)
class Annotation:
    """Its segmentation is looked at with its image: one that is broken is an unreadable sample."""

    image_id: Id
    segmentation: Any
    iscrowd: Flag = 0


@schema(config=STRICT, slots=True)
class Instances:
    images: Annotated[list[ImageInfo], FailFast()]
    annotations: Annotated[list[Annotation], FailFast()]


class CocoInstances(SceneSource):
    """Images with masks in COCO's instance format, as COCO has it and as annotation tools export it.

    Polygons and both kinds of run-length encodings are read; crowd regions and images without annotations are left
    out, images that are not there with a warning.

    Args:
        images: folder that the JSON's `file_name`s are relative to; `$DATA_ROOT` is replaced.
        annotations: the JSON.
        offset: images to skip at the beginning, in the order of their ids.
        limit: images to use after these; None for all.

    Raises:
        UserError: a file or a folder is missing, the JSON is of another format, or nothing is left to use.
    """

    def __init__(self, images: str, annotations: str, offset: int = 0, limit: int | None = None):
        self.folder = _folder(images, "images")
        path = expand(annotations, "annotations")
        content = json_file(path, TypeAdapter(Instances), ABOUT)
        files = {image.id: image.file_name for image in content.images}
        if len(files) < len(content.images):
            raise UserError(f"{printable(path)} gives several images the same id.\n{ABOUT}")
        found: dict[int | str, list[Any]] = {}
        for annotation in content.annotations:
            if not annotation.iscrowd:
                found.setdefault(annotation.image_id, []).append(annotation.segmentation)
        there = files_under(self.folder)
        annotated = sorted((key for key in found if key in files), key=lambda key: (isinstance(key, str), key))
        present = {key: name for key in annotated if (name := place(files[key], there))}
        if len(present) < len(annotated):
            log.warning("%d of the %d annotated images are in %s", len(present), len(annotated), printable(self.folder))
        chosen = list(present)[offset:][:limit]
        if not chosen:
            raise UserError(
                f"{printable(path)}: of {len(files)} images {len(annotated)} are annotated and {len(present)} are in "
                f"{printable(self.folder)}; offset {offset}, limit {limit} leave none of them"
            )
        self._files = [present[key] for key in chosen]
        self._segmentations = [found[key] for key in chosen]
        self._path = path

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Scene:
        """Image and masks in the order of the JSON. UnreadableSample for a broken image or segmentation."""
        file = self._files[index]
        image = decode_rgb(read_file(self.folder / file), printable(self.folder / file))
        shape = (image.shape[0], image.shape[1])
        try:
            masks = [decode_segmentation(segmentation, shape) for segmentation in self._segmentations[index]]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            said = f"segmentation of {printable(file)}: {shown(str(error), 200)}"
            raise UnreadableSample(printable(self._path), said) from error
        return Scene(image, _filled(np.array(masks, dtype=bool).reshape(-1, *shape)), file)


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


class MaskFolder(SceneSource):
    """Images with masks as PNGs, or, without `masks`, images alone (to distil on).

    The masks of `a.jpg` are in `a.png`, whose colours, palette indices or grey values other than 0 (black) are an
    object each, or in a folder `a/` of PNGs, each of them one object where it is not black. Images without either are
    left out with a warning.

    Args:
        images: folder of pictures; `$DATA_ROOT` is replaced.
        masks: folder of their masks; None for no masks.
        offset: images to skip at the beginning, in the order of their names.
        limit: images to use after these; None for all.

    Raises:
        UserError: a folder is missing, or nothing in it is left to use.
    """

    def __init__(self, images: str, masks: str | None = None, offset: int = 0, limit: int | None = None):
        files = picture_files([_folder(images, "images")])
        self._masks: list[list[Path]] = [[] for _ in files]
        if masks is not None:
            folder = _folder(masks, "masks")
            pairs = [(file, _mask_files(folder, file.stem)) for file in files]
            pairs = [(file, found) for file, found in pairs if found]
            if len(pairs) < len(files):
                log.warning("%d of the %d images have masks in %s", len(pairs), len(files), printable(folder))
            files, self._masks = [file for file, _ in pairs], [found for _, found in pairs]
        self._files, self._masks = files[offset:][:limit], self._masks[offset:][:limit]
        if not self._files:
            raise UserError(
                f"{len(files)} images in {images} have what is needed (masks for a.jpg: {masks or '<masks>'}/a.png or "
                f"{masks or '<masks>'}/a/*.png); offset {offset}, limit {limit} leave none of them"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Scene:
        """Image and masks. UnreadableSample for a broken picture, or masks of another size."""
        path, files = self._files[index], self._masks[index]
        image = decode_rgb(read_file(path), printable(path))
        shape = (image.shape[0], image.shape[1])
        found = [np.zeros((0, *shape), bool)]
        for file in files:
            numbers = read_numbers(file)
            if numbers.shape != shape:
                raise UnreadableSample(printable(file), f"is {numbers.shape} pixels, its image {shape}")
            own = [number for number in np.unique(numbers).tolist() if number]
            single = file.parent.name == path.stem
            found.append(numbers[None] != 0 if single else numbers == np.array(own, numbers.dtype)[:, None, None])
        return Scene(image, _filled(np.concatenate(found)), path.stem)


def read_numbers(path: Path) -> np.ndarray:
    """A PNG's grey values, palette indices or colours (r + 256 g + 65536 b), int64 [H, W]; transparency is no number.

    Raises:
        UnreadableSample: missing, damaged, or no picture.
    """
    content = read_file(path)
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode == "LA":
                image = image.convert("L")
            elif image.mode not in ("1", "L", "P") and image.mode[0] != "I":
                image = image.convert("RGB")
            values = np.asarray(image).astype(np.int64)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableSample(printable(path), f"cannot be decoded as an image ({error})") from error
    return values if values.ndim == 2 else values @ np.array([1, 1 << 8, 1 << 16])


def _folder(path: str, what: str) -> Path:
    folder = expand(path, what)
    if not is_folder(folder):
        raise UserError(f"no folder {printable(folder)} of {what}")
    return folder


def _mask_files(folder: Path, stem: str) -> list[Path]:
    single = folder / f"{stem}.png"
    return [single] if single.is_file() else sorted((folder / stem).glob("*.png"))


def _filled(masks: np.ndarray) -> np.ndarray:
    """Those of masks [K, H, W] that are not empty."""
    return masks[masks.any((1, 2))]
