"""Captioned images in parquet, as the hub stores them: columns `image` and `caption`, read a row group at a time."""

from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.data.checks import try_source
from common.data.files import decode_rgb, is_folder, walk
from common.data.images import Picture, PictureSource
from common.data.records import check_columns, parquet
from common.data.scene import UnreadableSample
from common.data.stream import WINDOW
from common.errors import UserError
from common.paths import expand

ABOUT = """Captioned images as the hub has them.
  expected: a folder of parquet files, at any depth, with a column of images, {bytes, path}, and one of captions"""
KEPT = 2 * WINDOW  # row groups in memory: those that a stream shuffles together, and those that follow


class CaptionedParquet(PictureSource):
    """Image-text pairs of a range of parquet files, whose images are never in memory all together.

    A row group is read whole, and the last ones are kept; so training takes the rows of a few groups after one another
    (`blocks`, see `common.data.stream`). Groups of some hundred rows, as `datasets` writes them, suit this.

    Args:
        root: folder of the files; `$DATA_ROOT` is replaced.
        first: position of the first file in the order of their paths.
        last: position behind the last one; None for all that follow.
        image: the column of images.
        caption: the column of captions.

    Raises:
        UserError: no such files, a damaged one, or one without these columns.
    """

    def __init__(
        self, root: str, first: int = 0, last: int | None = None, image: str = "image", caption: str = "caption"
    ):
        self.image, self.caption = image, caption
        self.groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for file in parquet_in(root)[first:last]:
            counts = self._index(file)
            self.groups += [(file, number) for number in range(len(counts))]
            sizes += counts
        if not sizes:
            count = len(parquet_in(root))
            raise UserError(f"no files {first} to {last} among the {count} parquet files in {expand(root, 'root')}")
        self.blocks = tuple(sizes)
        self.ends = list(accumulate(sizes))
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    @classmethod
    def check(cls, root: str, first: int = 0, last: int | None = None, **columns: str) -> None:
        """Try the first and the last of the files."""
        count = len(parquet_in(root)[first:last])
        for number in {first, first + max(count, 1) - 1}:
            try_source(cls(root, number, number + 1, **columns))

    def _index(self, file: Path) -> list[int]:
        """Rows of each group of a file whose columns have been checked."""
        with parquet(file) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        check_columns(file, schema, {self.caption: "text"}, ABOUT)
        kind = schema.field(self.image).type if self.image in schema.names else pa.null()
        place = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
        if not _is_binary(kind[place].type if place >= 0 else kind):
            names = ", ".join(schema.names)
            raise UserError(f"{file} has no column '{self.image}' of encoded images among {names}.\n{ABOUT}")
        if min(sizes, default=0) < 1:
            raise UserError(f"{file} has no rows: download it again.\n{ABOUT}")
        return sizes

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Picture:
        group = bisect_right(self.ends, index)
        row = index - self.ends[group] + self.blocks[group]
        name = f"{self.groups[group][0]}:{group}:{row}"
        table = self._table(group)
        image, caption = table[self.image][row].as_py(), table[self.caption][row].as_py()
        content = image.get("bytes") if isinstance(image, dict) else image
        if not caption or not caption.strip():
            raise UnreadableSample(name, "it has no caption")
        return Picture(decode_rgb(content or b"", name), -1, caption.strip(), name)

    def _table(self, group: int) -> pa.Table:
        if group not in self._kept:
            file, number = self.groups[group]
            with parquet(file) as opened:
                table = opened.read_row_group(number, columns=[self.image, self.caption])
                table.validate(full=True)
            self._kept[group] = table
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept in memory: every process of a loader reads for itself."""
        return {**self.__dict__, "_kept": OrderedDict()}


def parquet_in(root: str) -> list[Path]:
    """The parquet files of a folder, at any depth, in the order of their paths; hidden ones are not data."""
    folder = expand(root, "root")
    if not is_folder(folder):
        raise UserError(f"no folder of parquet files at {folder}: download the data set there.\n{ABOUT}")
    found = [parent / name for parent, names in walk(folder) for name in names if name.endswith(".parquet")]
    found = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))
    if not found:
        raise UserError(f"no parquet files in {folder}: download the data set there.\n{ABOUT}")
    return found


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
