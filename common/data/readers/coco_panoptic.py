"""COCO's panoptic format: a JSON that lists segments, and a PNG per image whose colours are their ids."""

import logging
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import FailFast, Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, files_under, is_file, is_folder, place, read_file
from common.data.records import FileName, Id, Words, json_file
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

log = logging.getLogger(__name__)

ABOUT = """COCO 2017 with panoptic annotations (annotations CC BY 4.0, images under their Flickr licences).
  from: cocodataset.org, "2017 Train/Val images" and "2017 Panoptic Train/Val annotations"
  expected: images/{train,val}2017/*.jpg or {train,val}2017/*.jpg;
    and, in panoptic_segmentation/annotations/ or annotations/, panoptic_{train,val}2017.json
    and a folder panoptic_{train,val}2017/ of PNGs (zipped inside the download)"""
LISTED = 10  # ids that a message lists

Flag = bool | Literal[0, 1]
SegmentId = Annotated[int, Field(ge=0, lt=1 << 24)]  # red + 256 green + 65536 blue
CategoryId = Annotated[int, Field(ge=-(2**31), lt=2**31)]


@schema(config=STRICT, slots=True)
class Segment:
    id: SegmentId
    category_id: CategoryId
    iscrowd: Flag = 0


@schema(config=STRICT, slots=True)
class Annotation:
    image_id: Id
    file_name: FileName
    segments_info: Annotated[list[Segment], FailFast()]


@schema(config=STRICT, slots=True)
class ImageInfo:
    id: Id
    file_name: FileName


@schema(config=STRICT, slots=True)
class Category:
    """A kind of segment; a data set of one's own that does not tell things from stuff has things."""

    id: CategoryId
    name: Words
    isthing: Flag = 1


@schema(config=STRICT, slots=True)
class Panoptic:
    images: Annotated[list[ImageInfo], FailFast()]
    annotations: Annotated[list[Annotation], FailFast()]
    categories: list[Category]


class CocoScene(Scene):
    """A scene whose masks have category names ("person", "sky-other-merged"), K of them."""

    def __init__(self, image: np.ndarray, masks: np.ndarray, name: str, categories: list[str]):
        super().__init__(image, masks, name)
        self.categories = categories


class CocoPanoptic(SceneSource):
    """Images of COCO that have panoptic annotations, by image id; a mask per segment, never overlapping.

    Crowd regions are left out. Images or PNGs that are not there are left out with a warning, so that a part of COCO
    works with the full JSON. PNGs hold ids as colours, or as grey values.

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
        UserError: folder or annotations missing, unreadable or in another format, or a selection that is empty.
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
        if offset < 0 or (limit is not None and limit < 1) or (longest_side is not None and longest_side < 1):
            raise UserError(
                f"COCO: offset {offset} must be 0 or more, limit {limit}, longest_side {longest_side} 1 or more"
            )
        self.min_area, self.longest_side = min_area, longest_side
        folder = expand(root, "root of COCO")
        index = _existing([folder / a / f"panoptic_{split}2017.json" for a in (annotations, "annotations")], is_file)
        self._pngs = _existing([index.with_suffix("")], is_folder)
        self._images = _existing([folder / images / f"{split}2017", folder / f"{split}2017"], is_folder)

        content = json_file(index, TypeAdapter(Panoptic), ABOUT)
        self._categories = [category.name for category in content.categories]
        number = _by_id(content.categories, index, "category")
        kinds = {category.id: bool(category.isthing) or not things_only for category in content.categories}
        files = {key: content.images[k].file_name for key, k in _by_id(content.images, index, "image").items()}
        entries = sorted(content.annotations, key=lambda entry: (isinstance(entry.image_id, str), entry.image_id))
        if twice := [a.image_id for a, b in zip(entries, entries[1:], strict=False) if a.image_id == b.image_id]:
            raise UserError(f"{index} annotates image {twice[0]} twice: keep one of the annotations")
        entries = [entry for entry in entries if entry.image_id in files]
        there, drawn = files_under(self._images), files_under(self._pngs)
        found = [(entry, place(files[entry.image_id], there), place(entry.file_name, drawn)) for entry in entries]
        usable = [(entry, image, png) for entry, image, png in found if image and png]
        if not usable:
            first = f"{files[entries[0].image_id]} and {entries[0].file_name}" if entries else "it annotates nothing"
            raise UserError(
                f"none of the {len(entries)} images in {index} ({first}) is in {self._images}, its PNG in "
                f"{self._pngs}: {ABOUT}"
            )
        if len(usable) < len(entries):
            log.warning("%d of the %d annotated images are in %s", len(usable), len(entries), self._images)
        for taken in ([image for _, image, _ in usable], [png for _, _, png in usable]):
            if len(set(taken)) < len(taken):
                [(again, _)] = Counter(taken).most_common(1)
                raise UserError(f"{index}: several images are called {again}: give each its own name or folder")
        if not (usable := usable[offset:][:limit]):
            raise UserError(f"COCO: offset {offset}, limit {limit} leave nothing of the images in {self._images}")

        # the segments of all images in one array: forked workers share it, spawned ones receive it quickly
        rows = []
        for entry, _, png in usable:
            if len({segment.id for segment in entry.segments_info}) < len(entry.segments_info):
                raise UserError(f"{index}: two segments of {png} have the same id")
            for segment in entry.segments_info:
                if segment.category_id not in number:
                    raise UserError(
                        f"{index}: segment {segment.id} of {png} has category {segment.category_id}, which is none of "
                        "its categories"
                    )
                kept = not segment.iscrowd and kinds[segment.category_id]
                rows.append((segment.id, number[segment.category_id], kept))
        self._files = [(image, png) for _, image, png in usable]
        self._segments = np.array(rows, np.int32).reshape(-1, 3)
        self._starts = np.cumsum([0] + [len(entry.segments_info) for entry, _, _ in usable])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> CocoScene:
        """Image and masks in the order of the JSON.

        Raises:
            UnreadableSample: a broken JPEG or PNG, or a PNG of another size or with other segments than the JSON.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        file, png = self._files[index]
        path = self._images / file
        image = decode_rgb(read_file(path), path, orient=False)
        ids = decode_ids(read_file(self._pngs / png), self._pngs / png)
        if ids.shape != image.shape[:2]:
            raise UnreadableSample(self._pngs / png, f"is {ids.shape} pixels, its image {image.shape[:2]}")
        numbers, categories, kept = self._segments[self._starts[index] : self._starts[index + 1]].T
        _check_drawn(ids, numbers, self._pngs / png)
        if self.longest_side is not None and max(image.shape) > self.longest_side:
            shrunk = Image.fromarray(image)
            shrunk.thumbnail((self.longest_side, self.longest_side), Image.Resampling.BILINEAR)
            image = np.array(shrunk)
            ids = np.array(Image.fromarray(ids).resize(shrunk.size, Image.Resampling.NEAREST))
        masks = ids == numbers[kept == 1, None, None]
        large = np.count_nonzero(masks, axis=(1, 2)) >= max(1, self.min_area * ids.size)
        names = [self._categories[category] for category in categories[kept == 1][large].tolist()]
        return CocoScene(image, masks[large], _name(file), names)

    @property
    def names(self) -> list[str]:
        """What an `ArrayStore` of features of these images checks its rows against."""
        return [_name(file) for file, _ in self._files]


def decode_ids(content: bytes, path: Path) -> np.ndarray:
    """The segments' ids of a PNG, int32 [H, W]: red + 256 green + 65536 blue of its colours, or its grey values.

    Raises:
        UnreadableSample: not an image, or with ids of more than 24 bits.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            grey = image.mode in ("1", "L", "I", "I;16", "I;16B", "I;16L")
            pixels = np.array(image if grey else image.convert("RGB")).astype(np.int64)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableSample(path, f"cannot be decoded as an image ({error})") from error
    ids = pixels if grey else pixels @ np.array([1, 1 << 8, 1 << 16])
    if ids.min() < 0 or ids.max() >= 1 << 24:
        raise UnreadableSample(path, "has grey values that are no ids of segments (0 to 2^24 - 1)")
    return ids.astype(np.int32)


def _check_drawn(ids: np.ndarray, listed: np.ndarray, path: Path) -> None:
    """UnreadableSample where a PNG and its JSON do not have the same segments; 0 is what belongs to none."""
    areas = [np.count_nonzero(ids == number) for number in listed]
    if all(areas) and sum(areas) + (0 if 0 in listed else np.count_nonzero(ids == 0)) == ids.size:
        return
    drawn, known = set(np.unique(ids).tolist()) - {0}, set(listed.tolist())
    differing = [("in the PNG alone", drawn - known), ("in the JSON alone", known - drawn)]
    said = [f"{words}: {_some(numbers)}" for words, numbers in differing if numbers]
    raise UnreadableSample(path, f"does not belong to its JSON: ids {'; '.join(said)}")


def _some(numbers: set[int]) -> str:
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return ", ".join(map(str, sorted(numbers)[:LISTED])) + more


def _by_id(entries: list[Any], index: Path, what: str) -> dict[Any, int]:
    """Positions of entries by their ids; UserError for an id that several have."""
    found = {entry.id: position for position, entry in enumerate(entries)}
    if len(found) < len(entries):
        [(twice, _)] = Counter(entry.id for entry in entries).most_common(1)
        raise UserError(f"{index}: several entries have the {what} id {twice}: give each its own")
    return found


def _name(file: str) -> str:
    return PurePosixPath(file).with_suffix("").as_posix()


def _existing(candidates: list[Path], there: Callable[[Path], bool]) -> Path:
    for path in candidates:
        if there(path):
            return path
    raise UserError(f"no {' and no '.join(map(str, dict.fromkeys(candidates)))} for {ABOUT}")
