"""COCO's captions, as 2014 and 2017 unpack: a folder of pictures, and `captions_<split>.json` beside it."""

import json

from common.data.files import decode_rgb
from common.data.images import Picture, PictureSource
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand


class CocoCaptions(PictureSource):
    """Pictures with the first of their five captions, in the order of their ids.

    Args:
        images: folder of the pictures, as "$DATA_ROOT/coco/val2014".
        captions: the annotations, as "$DATA_ROOT/coco/annotations/captions_val2014.json".
        limit: use the first so many pictures; None for all.

    Raises:
        UserError: no such folder or file, or one that holds no captions.
    """

    def __init__(self, images: str, captions: str, limit: int | None = None):
        self.folder, file = expand(images, "images"), expand(captions, "captions")
        if not self.folder.is_dir():
            raise UserError(f"no folder of COCO's pictures at {self.folder}: unpack them there (cocodataset.org)")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            names = {int(entry["id"]): str(entry["file_name"]) for entry in content["images"]}
            said: dict[int, tuple[int, str]] = {}
            for entry in content["annotations"]:
                found = int(entry["id"]), str(entry["caption"]).strip()
                said[entry["image_id"]] = min(said.get(entry["image_id"], found), found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"cannot read COCO's captions from {file} ({error!r}): unpack the annotations there"
            ) from error
        self.pictures = [(names[k], said[k][1]) for k in sorted(names) if k in said][:limit]
        if not self.pictures:
            raise UserError(f"{file} has no captions for its pictures: give COCO's captions_<split>.json")

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        name, caption = self.pictures[index]
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnreadableSample(path, str(error)) from error
        return Picture(decode_rgb(content, str(path)), -1, caption, name)
