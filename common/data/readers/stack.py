"""The Stack v2: repositories of source files in parquet, read a row group at a time."""

from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.data.code import Repository, RepositorySource
from common.data.files import matching, shown
from common.data.records import check_columns, is_text, parquet
from common.errors import UserError
from common.paths import expand

ABOUT = """The Stack v2, bigcode/the-stack-v2-train-full-ids (gated; each file under its repository's licence).
  from: the hub has ids alone; the contents come from Software Heritage, as its dataset card shows
  expected: parquet files of rows in random order, a repository each: `repo_name` and `files`, a list of structs with
    `content`. Row groups are read whole: keep them small (some 64 repositories)."""
KEPT = 32  # row groups in memory; the parts of a sample come from several


class StackRepositories(RepositorySource):
    """Rows `repo_name`, `files: [{content, ...}]`, the layout of train-full-ids once the contents are there.

    Args:
        files: a file, or a pattern as "$DATA_ROOT/the-stack-v2/*.parquet".
        limit: use the first so many rows.

    Raises:
        UserError: no such file, a damaged one, or another layout.
    """

    def __init__(self, files: str, limit: int | None = None):
        path = expand(files, "files")
        found = matching(path)
        if not found:
            raise UserError(f"no parquet files at {path}.\n{ABOUT}")
        self.groups: list[tuple[Path, int]] = []
        self.starts: list[int] = []
        self.rows = 0
        for file in found:
            self._index(file)
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: at least one row is needed")
        self.size = min(self.rows, limit or self.rows)
        self._kept: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()

    def _index(self, file: Path) -> None:
        with parquet(file) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        kind = schema.field("files").type if "files" in schema.names else pa.null()
        if "repo_name" not in schema.names or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            known = shown(", ".join(schema.names), 300)
            raise UserError(f"{file} has columns {known}, not `repo_name` and `files`.\n{ABOUT}")
        check_columns(file, schema, {"repo_name": "text"}, ABOUT)
        place = kind.value_type.get_field_index("content") if pa.types.is_struct(kind.value_type) else -1
        if place < 0 or not is_text(kind.value_type[place].type):
            raise UserError(f"{file} has files without `content`: fetch them from Software Heritage.\n{ABOUT}")
        if min(sizes, default=0) < 1:
            raise UserError(f"{file} has no rows: download it again.\n{ABOUT}")
        for group, size in enumerate(sizes):
            self.groups.append((file, group))
            self.starts.append(self.rows)
            self.rows += size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Repository:
        """The row, or the next one that has any text."""
        for step in range(self.size):
            at = (index + step) % self.size
            group = bisect_right(self.starts, at) - 1
            row = self._rows(group)[at - self.starts[group]]
            texts = [file["content"] for file in row["files"] or [] if file and (file["content"] or "").strip()]
            if texts:
                return Repository(row["repo_name"], texts)
        raise UserError(f"none of the {self.size} repositories in {self.groups[0][0].parent} has any content.\n{ABOUT}")

    def _rows(self, group: int) -> list[dict[str, Any]]:
        if group not in self._kept:
            file, number = self.groups[group]
            with parquet(file) as opened:
                table = opened.read_row_group(number, columns=["repo_name", "files"])
                table.validate(full=True)
                rows = table.to_pylist()
            if unnamed := [k for k, row in enumerate(rows) if not row["repo_name"]]:
                raise UserError(f"{file}, row {unnamed[0]} of row group {number}, has no `repo_name`.\n{ABOUT}")
            self._kept[group] = rows
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]
