"""COCO's captions, as 2014 and 2017 unpack: a folder of pictures, and `captions_<split>.json` beside it."""

from pathlib import Path
from typing import Annotated

from pydantic import FailFast, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, files_under, is_folder, place, read_file
from common.data.images import Picture, PictureSource
from common.data.records import FileName, Int, Words, json_file
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

ABOUT = """COCO's captions (annotations CC BY 4.0, images under their Flickr licences).
  from: cocodataset.org, "Val images" and "Train/Val annotations" of 2014 or 2017
  expected: a folder of pictures, and a JSON captions_<split>.json with `images` and `annotations`"""


@schema(config=STRICT, slots=True)
class ImageInfo:
    id: Int
    file_name: FileName


@schema(config=STRICT, slots=True)
class Caption:
    id: Int
    image_id: Int
    caption: Words


@schema(config=STRICT, slots=True)
class Captions:
    images: Annotated[list[ImageInfo], FailFast()]
    annotations: Annotated[list[Caption], FailFast()]


class CocoCaptions(PictureSource):
    """Pictures with the first of their five captions, in the order of their ids.

    Args:
        images: folder of the pictures, as "$DATA_ROOT/coco/val2014".
        captions: the annotations, as "$DATA_ROOT/coco/annotations/captions_val2014.json".
        limit: use the first so many pictures; None for all.

    Raises:
        UserError: no such folder or file, one in another format, or one that holds no captions.
    """

    def __init__(self, images: str, captions: str, limit: int | None = None):
        self.folder, file = expand(images, "images"), expand(captions, "captions")
        if not is_folder(self.folder):
            raise UserError(f"no folder of COCO's pictures at {self.folder}: unpack them there.\n{ABOUT}")
        content = json_file(file, TypeAdapter(Captions), ABOUT)
        names = {entry.id: entry.file_name for entry in content.images}
        if len(names) < len(content.images) or len(set(names.values())) < len(names):
            raise UserError(f"{file} lists an image id or a file twice: download it again.\n{ABOUT}")
        said: dict[int, tuple[int, str]] = {}
        for entry in content.annotations:
            found = entry.id, entry.caption.strip()
            said[entry.image_id] = min(said.get(entry.image_id, found), found)
        there = files_under(self.folder)
        captioned = [(names[k], said[k][1]) for k in sorted(names) if k in said]
        if not captioned:
            raise UserError(f"{file} has no captions for its pictures: give COCO's captions_<split>.json.\n{ABOUT}")
        if not any(place(name, there) for name, _ in captioned):
            raise UserError(f"none of the pictures in {file} ({captioned[0][0]}, ...) is in {self.folder}.\n{ABOUT}")
        self.pictures = [(place(name, there) or Path(name).name, caption) for name, caption in captioned][:limit]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        name, caption = self.pictures[index]
        path = self.folder / name
        return Picture(decode_rgb(read_file(path), path), -1, caption, name)
