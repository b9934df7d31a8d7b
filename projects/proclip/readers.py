"""Readers of the paper's captioned pictures: DreamLIP's captions for training, and the retrieval sets of its tables."""

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import FailFast, Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.archives import PairedTars
from common.data.files import decode_rgb, is_file, is_folder, lines_of, matching, read_file
from common.data.records import FileName, Words, json_file, json_lines
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT, parse
from projects.proclip.data import Captioned
from projects.proclip.sets import Parts

Said = list[tuple[str, tuple[str, ...]]]
"""A picture's path below the set's root, and its captions."""
IMAGES = ("jpg", "jpeg", "png", "webp")
LANGUAGES = [
    "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr", "he", "hi", "hr", "hu", "id", "it",
    "ja", "ko", "mi", "nl", "no", "pl", "pt", "quz", "ro", "ru", "sv", "sw", "te", "th", "tr", "uk", "vi", "zh",
]  # fmt: skip
"""Of XM3600."""
LONG = 1000
"""Pictures of ShareGPT4V that are tested on, the first ones, as LongCLIP has it."""


class DreamLip(Captioned):
    """CC3M, CC12M and YFCC15M with DreamLIP's captions, as img2dataset packs them: `<key>.jpg`, `<key>.json`.

    The captions are columns of the released csv files, which img2dataset puts into the json where it is told to:
    `--caption_col raw_caption --save_additional_columns '["shortSV_captions","longSV_captions"]'`.

    Args:
        roots: folders of tars, one after another; `$DATA_ROOT` is replaced.
        said: fields of the captions: the short one, the raw one (the "noise" of the released code), the long one.
    """

    def __init__(
        self,
        roots: list[str],
        said: tuple[str, ...] = ("shortSV_captions", "caption", "longSV_captions"),
    ):
        if not roots:
            raise UserError("no folder of tars is named: give one at least")
        self.parts = [PairedTars(root, 0, None, IMAGES, ("json",)) for root in roots]
        self.ends = list(accumulate(len(part) for part in self.parts))
        self.said, self.views = said, len(said)

    def __len__(self) -> int:
        return self.ends[-1]

    def _read(self, index: int) -> tuple[bytes, bytes, str]:
        part = next(k for k, end in enumerate(self.ends) if index < end)
        return self.parts[part].read(index - (self.ends[part - 1] if part else 0), "pair")

    def captions(self, index: int) -> tuple[str, ...]:
        _, content, name = self._read(index)
        try:
            fields = json.loads(content)
        except ValueError as error:
            raise UnreadableSample(name, f"its json is damaged ({error})") from error
        found = [fields.get(field) if isinstance(fields, dict) else None for field in self.said]
        for field, text in zip(self.said, found, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise UnreadableSample(name, f"it has no text in '{field}'")
        return tuple(str(text).strip() for text in found)

    def image(self, index: int) -> tuple[np.ndarray, str]:
        content, _, name = self._read(index)
        return decode_rgb(content, name), name


Name = Literal["flickr30k", "coco", "sharegpt4v", "urban1k", "docci", "dci", "xm3600"]


@schema(config=STRICT, slots=True)
class Sentence:
    raw: Words


@schema(config=STRICT, slots=True)
class Split:
    filename: FileName
    split: str
    sentences: list[Sentence]
    filepath: str = ""


@schema(config=STRICT, slots=True)
class Karpathy:
    images: Annotated[list[Split], FailFast()]


@schema(config=STRICT, slots=True)
class Turn:
    value: Words


@schema(config=STRICT, slots=True)
class Conversation:
    image: FileName
    conversations: Annotated[list[Turn], Field(min_length=2)]


@schema(config=STRICT, slots=True)
class Described:
    image_file: FileName
    description: Words
    split: str


@schema(config=STRICT, slots=True)
class Dense:
    image: FileName
    short_caption: Words
    extra_caption: str = ""


class RetrievalSet(Captioned):
    """A test set of captioned pictures in the layout in which it is released.

    Args:
        root: folder of the set; `$DATA_ROOT` is replaced.
        name: which set.
        split: of Karpathy's sets and of DOCCI: test or val.
        language: of XM3600, as "de".
        limit: the first so many pictures; None for all.

    Raises:
        UserError: folder, captions or all of the pictures are missing, or a file is in another format.
    """

    def __init__(self, root: str, name: Name, split: str = "test", language: str = "en", limit: int | None = None):
        self.root, self.views = expand(root, f"root of {name}"), 1
        self.about = f"{name}. {ABOUT[name]}"
        if not is_folder(self.root):
            raise UserError(f"no folder at {self.root}.\n{self.about}")
        read: dict[Name, Callable[[], Said]] = {
            "flickr30k": lambda: self._karpathy("dataset_flickr30k.json", "flickr30k-images", split),
            "coco": lambda: self._karpathy("dataset_coco.json", "", split),
            "sharegpt4v": self._sharegpt4v,
            "urban1k": self._urban1k,
            "docci": lambda: self._docci(split),
            "dci": self._dci,
            "xm3600": lambda: self._xm3600(language),
        }
        self.said = read[name]()[:limit]
        if not self.said or not any(is_file(self.root / path) for path, _ in self.said):
            raise UserError(f"no captioned pictures at {self.root}: unpack them.\n{self.about}")

    def __len__(self) -> int:
        return len(self.said)

    def captions(self, index: int) -> tuple[str, ...]:
        """As many as the set has of a picture."""
        return self.said[index][1]

    def image(self, index: int) -> tuple[np.ndarray, str]:
        path = self.root / self.said[index][0]
        return decode_rgb(read_file(path), path), path.name

    def _json(self, name: str, kind: Any) -> Any:
        return json_file(self.root / name, TypeAdapter(kind), self.about)

    def _karpathy(self, file: str, folder: str, split: str) -> Said:
        found = [entry for entry in self._json(file, Karpathy).images if entry.split == split]
        return [
            ("/".join(filter(None, (folder or entry.filepath, entry.filename))), tuple(s.raw for s in entry.sentences))
            for entry in found
        ]

    def _sharegpt4v(self) -> Said:
        found = self._json("share-captioner_coco_lcs_sam_1246k_1107.json", list[Conversation])
        return [(entry.image, (entry.conversations[1].value,)) for entry in found[:LONG]]

    def _urban1k(self) -> Said:
        texts = matching(self.root / "caption/*.txt")
        return [(f"image/{text.stem}.jpg", (" ".join(lines_of(text)).strip(),)) for text in texts]

    def _docci(self, split: str) -> Said:
        rows = json_lines(self.root / "docci_descriptions.jsonlines", TypeAdapter(Described), self.about)
        return [(f"images/{row.image_file}", (row.description,)) for _, row in rows if row.split == split]

    def _dci(self) -> Said:
        files = matching(self.root / "complete/*.json")
        rows = [json_file(file, TypeAdapter(Dense), self.about) for file in files]
        return [(f"photos/{row.image}", (f"{row.short_caption} {row.extra_caption}".strip(),)) for row in rows]

    def _xm3600(self, language: str) -> Said:
        found: Said = []
        for number, line in enumerate(lines_of(self.root / "captions.jsonl"), start=1):
            try:
                row = parse(TypeAdapter(dict[str, Any]), line.encode())
                key, said = row["image/key"], row[language]["caption"]
                found.append((f"images/{key}.jpg", tuple(str(text) for text in said)))
            except (KeyError, TypeError, ValueError) as error:
                place = self.root / "captions.jsonl"
                raise UserError(f"{place}, line {number}, has no captions in '{language}'.\n{self.about}") from error
        return found


class Crossmodal(Parts):
    """XM3600 in all of its languages.

    Args:
        root: folder of the set; `$DATA_ROOT` is replaced.
    """

    def __init__(self, root: str):
        self.root = root

    def parts(self) -> dict[str, Captioned]:
        return {language: RetrievalSet(self.root, "xm3600", language=language) for language in LANGUAGES}


ABOUT: dict[Name, str] = {
    "flickr30k": "Expected: dataset_flickr30k.json (Karpathy's splits) and flickr30k-images/*.jpg",
    "coco": "Expected: dataset_coco.json (Karpathy's splits), and val2014/*.jpg of COCO 2014",
    "sharegpt4v": "Expected: share-captioner_coco_lcs_sam_1246k_1107.json of Lin-Chen/ShareGPT4V, and the pictures of "
    "its first 1,000 entries under their paths",
    "urban1k": "Expected: caption/<n>.txt and image/<n>.jpg of BeichenZhang/Urban1k",
    "docci": "Expected: docci_descriptions.jsonlines of google.github.io/docci, and images/*.jpg",
    "dci": "Expected: complete/*.json of facebookresearch/DCI, and photos/*.jpg (of SA-1B)",
    "xm3600": "Expected: captions.jsonl of google.github.io/crossmodal-3600, and images/*.jpg",
}
