"""Records of declared types: JSON by pydantic's schemas, parquet by the types of its columns.

A schema is a dataclass; what it does not name may stand in a record and is ignored. Nothing is converted: a number in
quotes is no number, and a word is no list of its letters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from common.data.files import as_utf8, byte_lines, is_file, readable, reason, refuse, shown
from common.errors import UserError
from common.schemas import parse

T = TypeVar("T")

Words = Annotated[str, StringConstraints(pattern=r"\S")]
"""Text that is not empty."""


def _relative(name: str) -> str:
    if "\0" in name or ".." in name.replace("\\", "/").split("/"):
        raise ValueError("a file's name must not lead out of its folder")
    return name


FileName = Annotated[Words, AfterValidator(_relative)]
Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Id = Int | Words


def json_lines(file: Path, schema: TypeAdapter[T], about: str) -> Iterator[tuple[str, T]]:
    """The records of a JSONL file, gzipped or not, each with "file:line"; empty lines are passed over.

    Args:
        about: the data set, for messages: where it comes from and what is expected.

    Raises:
        UserError: not readable, cut off, without any record, or a line that is not one.
    """
    number = 0
    for number, line in byte_lines(file):
        try:
            record = parse(schema, line)
        except ValueError as error:
            raise UserError(f"{file}, line {number}, is not as expected: {error}.\n{about}") from error
        yield f"{file}:{number}", record
    if not number:
        raise UserError(f"{file} is empty: download it again.\n{about}")


def json_file(file: Path, schema: TypeAdapter[T], about: str) -> T:
    """A JSON file as what its schema says; errors as `json_lines`."""
    if not is_file(file):
        raise UserError(f"{file} is missing.\n{about}")
    with readable(file):
        content = file.read_bytes()
    refuse(content, file)
    try:
        return parse(schema, as_utf8(content, file))
    except ValueError as error:
        kind = "is truncated or damaged" if "Invalid JSON" in str(error) else "is not as expected"
        raise UserError(f"{file} {kind}: {error}.\n{about}") from error


Column = Literal["text", "optional text", "whole number"]


def table(file: Path, columns: dict[str, Column], about: str) -> dict[str, list[Any]]:
    """Columns of a parquet file, row by row; optional text is None where there is none.

    Raises:
        UserError: damaged, without rows, without one of the columns, or with other types in them.
    """
    with parquet(file) as opened:
        check_columns(file, opened.schema_arrow, columns, about)
        found = opened.read(columns=list(columns))
        found.validate(full=True)  # strings that are no UTF-8 among others
        rows = {name: found[name].to_pylist() for name in columns}
    if not len(found):
        raise UserError(f"{file} has no rows: download it again.\n{about}")
    for name, kind in columns.items():
        if kind != "optional text" and None in rows[name]:
            raise UserError(f"{file}, row {rows[name].index(None)}, has nothing in column '{name}'.\n{about}")
    return rows


def check_columns(file: Path, schema: pa.Schema, columns: dict[str, Column], about: str) -> None:
    """UserError where a column is missing or of another type."""
    for name, kind in columns.items():
        if name not in schema.names:
            known = shown(", ".join(schema.names), 300)
            raise UserError(f"{file} has no column '{name}', only {known}: name the right one.\n{about}")
        found = schema.field(name).type
        fits = pa.types.is_integer(found) if kind == "whole number" else is_text(found)
        if not fits and not (kind == "optional text" and pa.types.is_null(found)):
            raise UserError(f"{file}: column '{name}' is {shown(str(found), 80)}, not {kind}.\n{about}")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's type is text, however it is stored."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


@contextmanager
def parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file to read from; what fails in it is a UserError that names the file."""
    if not is_file(file):
        raise UserError(f"{file} is missing")
    with readable(file), file.open("rb") as handle:
        refuse(handle.read(1000), file)
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            yield opened
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise UserError(f"cannot read {file} as parquet ({reason(error)}): download it again") from error
