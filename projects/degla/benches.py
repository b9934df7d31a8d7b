"""What DeGLA learns from and is tested on, as it is released: its negatives, SugarCrepe, VALSE, ARO."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import FailFast, Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, files_under, is_folder, place, read_file
from common.data.records import FileName, Int, Words, json_file
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT
from projects.degla.data import Item, ItemSource

SUGARCREPE = """SugarCrepe (MIT).
  from: github.com/RAIVNLab/sugar-crepe, folder data; pictures: COCO's val2017
  expected: a JSON of {number: {filename, caption, negative_caption}}, and the folder of the pictures"""
VALSE = """VALSE (MIT).
  from: github.com/Heidelberg-NLP/VALSE, folder data; pictures: of visual7w, COCO, SWiG and VisDial, as its README says
  expected: a JSON of {id: {image_file, caption, foil, mturk: {caption}}}, and the folder of the pictures"""
ARO = """ARO's relations and attributes (Visual Genome).
  from: github.com/mertyg/vision-language-models-are-bows, which downloads them
  expected: visual_genome_relation.json or visual_genome_attribution.json, and their folder images"""
ORDER = """ARO's order of words, on COCO's or Flickr30k's captions.
  from: the `test_cases` of COCO_Order and Flickr30k_Order in github.com/mertyg/vision-language-models-are-bows, which
    shuffle with spaCy; save them: json.dump(COCO_Order(root_dir=..., split="test").test_cases, open(file, "w"))
  expected: a JSON list of {image, caption_options}, the true caption first, and the folder of the pictures"""
NEGATIVES = """Captions with hard negatives.
  from: the hub's data set wsdwJohn1231/DeGLA, with COCO's train2014; or projects.degla.tools.negatives on own captions
  expected: a JSON list of {image_id or image, original, enhanced: [negatives]}, and the folder of the pictures"""


@schema(config=STRICT, slots=True)
class Crepe:
    filename: FileName
    caption: Words
    negative_caption: Words


@schema(config=STRICT, slots=True)
class Votes:
    caption: Int


@schema(config=STRICT, slots=True)
class Foiled:
    image_file: FileName
    caption: Words
    foil: Words
    mturk: Votes


@schema(config=STRICT, slots=True)
class Genome:
    image_path: FileName
    true_caption: Words
    false_caption: Words
    bbox_x: Int
    bbox_y: Int
    bbox_w: Annotated[Int, Field(gt=0)]
    bbox_h: Annotated[Int, Field(gt=0)]


@schema(config=STRICT, slots=True)
class Ordered:
    image: FileName
    caption_options: Annotated[list[Words], Field(min_length=2)]


@schema(config=STRICT, slots=True)
class Rewritten:
    original: str | float | int
    enhanced: list[str | float | int | None]
    image_id: Int | None = None
    image: FileName | None = None


@dataclass
class Row:
    """An item before its picture is read; `box` is (x, y, width, height) of the part to look at."""

    file: str
    caption: str
    foils: tuple[str, ...]
    box: tuple[int, int, int, int] | None = None


class ReleasedItems(ItemSource):
    """Rows with pictures in a folder, which may have folders of its own.

    Raises:
        UserError: no rows, no such folder, or none of the pictures in it.
    """

    def __init__(self, images: str, rows: list[Row], about: str):
        self.folder = expand(images, "images")
        if not is_folder(self.folder):
            raise UserError(f"no folder of pictures at {self.folder}.\n{about}")
        if not rows:
            raise UserError(f"there are no items to go with {self.folder}.\n{about}")
        there = files_under(self.folder)
        anywhere = {Path(path).name: path for path in there}
        self.rows = rows
        self.names = [place(row.file, there) or anywhere.get(Path(row.file).name) for row in rows]
        if not any(self.names):
            raise UserError(f"none of the pictures ({rows[0].file}, ...) is in {self.folder}.\n{about}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        row = self.rows[index]
        path = self.folder / (self.names[index] or Path(row.file).name)
        image = decode_rgb(read_file(path), path, orient=row.box is None)  # boxes count the stored pixels
        if row.box is not None:
            x, y, width, height = row.box
            image = image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
            if not image.size:
                raise UnreadableSample(path, f"has nothing in the box {row.box}")
        return Item(image, row.caption, row.foils)


class SugarCrepe(ReleasedItems):
    """One of its seven files: a caption and one negative.

    Args:
        file: as "$DATA_ROOT/sugarcrepe/swap_att.json".
        images: folder of COCO's val2017.
    """

    def __init__(self, file: str, images: str):
        rows = json_file(expand(file, "file"), TypeAdapter(dict[str, Crepe]), SUGARCREPE)
        found = [Row(row.filename, row.caption, (row.negative_caption,)) for row in rows.values()]
        super().__init__(images, found, SUGARCREPE)


class Valse(ReleasedItems):
    """One of its eleven pieces: the captions that at least two of three people held for the true one.

    Args:
        file: as "$DATA_ROOT/valse/existence.json".
        images: folder of the piece's pictures.
    """

    def __init__(self, file: str, images: str):
        rows = json_file(expand(file, "file"), TypeAdapter(dict[str, Foiled]), VALSE)
        found = [Row(row.image_file, row.caption, (row.foil,)) for row in rows.values() if row.mturk.caption >= 2]
        super().__init__(images, found, VALSE)


class AroPairs(ReleasedItems):
    """Relations or attributes: the part of a picture that they are of, a caption, and the same with the two exchanged.

    Args:
        file: as "$DATA_ROOT/aro/visual_genome_relation.json".
        images: folder of its pictures.
    """

    def __init__(self, file: str, images: str):
        schema = TypeAdapter(Annotated[list[Genome], FailFast()])
        found = [
            Row(r.image_path, r.true_caption, (r.false_caption,), (r.bbox_x, r.bbox_y, r.bbox_w, r.bbox_h))
            for r in json_file(expand(file, "file"), schema, ARO)
        ]
        super().__init__(images, found, ARO)


class AroOrder(ReleasedItems):
    """The order of words: a caption and four shuffles of it.

    Args:
        file: the official class's `test_cases` as JSON.
        images: folder of COCO's or Flickr30k's pictures.
    """

    def __init__(self, file: str, images: str):
        rows = json_file(expand(file, "file"), TypeAdapter(Annotated[list[Ordered], FailFast()]), ORDER)
        found = [Row(row.image, row.caption_options[0], tuple(row.caption_options[1:])) for row in rows]
        if len({len(row.foils) for row in found}) > 1:
            raise UserError(f"{file}: not all captions have the same number of options.\n{ORDER}")
        super().__init__(images, found, ORDER)


class Negatives(ReleasedItems):
    """Captions with the first K of their negatives, to train on.

    Args:
        file: as "$DATA_ROOT/degla/DeGLA.json".
        images: folder of the pictures: COCO's train2014, where the file names them by number.
        negatives: K.
    """

    def __init__(self, file: str, images: str, negatives: int = 4):
        path = expand(file, "file")
        found = []
        for number, row in enumerate(json_file(path, TypeAdapter(Annotated[list[Rewritten], FailFast()]), NEGATIVES)):
            if len(row.enhanced) < negatives:
                raise UserError(
                    f"{path}, entry {number}, has {len(row.enhanced)} negatives, fewer than {negatives}.\n{NEGATIVES}"
                )
            if row.image is None and row.image_id is None:
                raise UserError(f"{path}, entry {number}, has neither image_id nor image.\n{NEGATIVES}")
            name = row.image or f"COCO_train2014_{row.image_id:012d}.jpg"
            # an LLM's answers need be no texts: the official loader, too, takes whatever stands there as one
            found.append(Row(name, str(row.original), tuple(map(str, row.enhanced[:negatives]))))
        super().__init__(images, found, NEGATIVES)
