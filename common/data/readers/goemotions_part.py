"""A fixed part of GoEmotions (Demszky et al. 2020), as it was released or as the hub has it."""

import json
from pathlib import Path

import pyarrow as pa

from common.data.files import matching
from common.data.readers.goemotions import ABOUT, GoEmotions
from common.data.records import parquet
from common.data.text import LabelledText, Split, TextSource
from common.errors import UserError
from common.paths import expand

HUB = f"""{ABOUT}
  or, as the hub has it (google-research-datasets/go_emotions): simplified/{{train,validation,test}}-*.parquet"""


class GoEmotionsPart(TextSource):
    """The first comments with exactly one emotion, of 27 and "neutral", in the order of the files.

    Args:
        root: folder of the released files, or of the hub's; `$DATA_ROOT` is replaced.
        train: comments to train on; None takes all, as for the others.
        val: comments to validate on.
        test: comments to test on.

    Raises:
        UserError: a file is missing or in another format, or a split has fewer comments.
    """

    def __init__(self, root: str, train: int | None = None, val: int | None = None, test: int | None = None):
        self.folder = expand(root, "root of GoEmotions")
        self.counts: dict[Split, int | None] = {"train": train, "val": val, "test": test}
        self.released = None if matching(self.folder / "simplified/*.parquet") else GoEmotions(root)
        self._classes = self.released.classes if self.released else self._named()

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def read(self, split: Split) -> list[LabelledText]:
        found = self.released.read(split) if self.released else self._parquet(split)
        count = self.counts[split]
        if count is not None and count > len(found):
            raise UserError(f"GoEmotions in {self.folder}: {split} has {len(found)} comments, {count} are asked for")
        return found[:count]

    def _files(self, split: Split) -> list[Path]:
        name = {"val": "validation"}.get(split, split)
        if files := matching(self.folder / f"simplified/{name}-*.parquet"):
            return files
        raise UserError(f"no simplified/{name}-*.parquet in {self.folder}.\n{HUB}")

    def _named(self) -> tuple[str, ...]:
        """The classes' names, which the hub's files have beside their columns."""
        file = self._files("train")[0]
        with parquet(file) as opened:
            noted = (opened.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        try:
            features = json.loads(noted)["info"]["features"]["labels"]
            return tuple(map(str, features["feature"]["names"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} does not name its classes: download it again.\n{HUB}") from error

    def _parquet(self, split: Split) -> list[LabelledText]:
        found = []
        for file in self._files(split):
            with parquet(file) as opened:
                schema = opened.schema_arrow
                kinds = {name: schema.field(name).type for name in ("text", "labels") if name in schema.names}
                if not (len(kinds) == 2 and pa.types.is_list(kinds["labels"]) and pa.types.is_integer(
                    kinds["labels"].value_type)):  # fmt: skip
                    raise UserError(f"{file} has no columns text and labels (lists of numbers).\n{HUB}")
                rows = opened.read(columns=["text", "labels"]).to_pylist()
            for number, row in enumerate(rows):
                if not row["labels"] or not all(k in range(len(self.classes)) for k in row["labels"]):
                    raise UserError(f"{file}, row {number}: no labels from 0 to {len(self.classes) - 1}.\n{HUB}")
                if len(row["labels"]) == 1:
                    found.append(LabelledText(row["text"], None, row["labels"][0]))
        return found
