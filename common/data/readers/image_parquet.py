"""Image data sets as the hub stores them: parquet files with encoded images and labels typed in the schema."""

from pathlib import Path

import pyarrow as pa
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, matching
from common.data.images import Picture, PictureSource
from common.data.records import Column, check_columns, parquet
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT, parse

ABOUT = "Parquet files of pictures as the hub has them: one column {bytes, path}, one or more of labels."


@schema(config=STRICT, slots=True)
class Feature:
    names: list[str] | None = None


@schema(config=STRICT, slots=True)
class Info:
    features: dict[str, Feature | list[Feature]]


@schema(config=STRICT, slots=True)
class Metadata:
    """What `datasets` keeps in a schema's metadata."""

    info: Info


METADATA = TypeAdapter(Metadata)


class ImageParquet(PictureSource):
    """Rows of one or several parquet files; the encoded images stay in memory (CIFAR-10: 18 MB as JPEG).

    Args:
        files: a file, or a pattern as "$DATA_ROOT/cifar10/train-*.parquet".
        label: column of the labels ("fine_label" for CIFAR-100).
        limit: use the first so many rows.

    Raises:
        UserError: no such file, a damaged one, no column of images, no column of that name, or labels that are none.
    """

    def __init__(self, files: str, label: str = "label", limit: int | None = None):
        path = expand(files, "files")
        found = matching(path)
        if not found:
            raise UserError(f"no parquet files at {path}: download the data set's parquet files from the hub")
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: at least one row is needed")
        tables = [_read(file, label) for file in found]
        try:
            table = pa.concat_tables(tables)[:limit]
        except pa.ArrowException as error:
            raise UserError(f"{found[0]} and those beside it have different columns ({error}).\n{ABOUT}") from error
        images = [field.name for field in table.schema if pa.types.is_struct(field.type)]
        self.name = found[0]
        self.images = table[images[0]].combine_chunks().field("bytes")
        self.labels = table[label].to_pylist()
        self.captions = table["caption"].to_pylist() if "caption" in table.column_names else [""] * len(table)
        self.classes = tuple(_class_names(table.schema, label, found[0]))
        largest = len(self.classes) or 2**31
        if odd := [row for row, value in enumerate(self.labels) if value is None or not 0 <= value < largest]:
            raise UserError(
                f"row {odd[0]} of {path} (and {len(odd) - 1} more) has label {self.labels[odd[0]]}, "
                f"not 0 to {largest - 1}.\n{ABOUT}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Picture:
        name = f"{self.name}:{index}"
        image = decode_rgb(self.images[index].as_py() or b"", name)
        return Picture(image, self.labels[index], self.captions[index] or "", name)


def _read(file: Path, label: str) -> pa.Table:
    """A file's rows, its columns checked."""
    with parquet(file) as opened:
        columns: dict[str, Column] = {label: "whole number"}
        if "caption" in opened.schema_arrow.names:
            columns["caption"] = "optional text"
        check_columns(file, opened.schema_arrow, columns, ABOUT)
        structs = [field for field in opened.schema_arrow if pa.types.is_struct(field.type)]
        if len(structs) != 1:
            names = ", ".join(opened.schema_arrow.names)
            raise UserError(f"{file} has {len(structs)} columns of images, not one: {names}.\n{ABOUT}")
        kind = structs[0].type
        place = kind.get_field_index("bytes")
        if place < 0 or not (pa.types.is_binary(kind[place].type) or pa.types.is_large_binary(kind[place].type)):
            raise UserError(f"{file}: column '{structs[0].name}' has no images in it ({kind}).\n{ABOUT}")
        rows = opened.read()
        rows.validate(full=True)
    if not len(rows):
        raise UserError(f"{file} has no rows: download it again.\n{ABOUT}")
    return rows


def _class_names(columns: pa.Schema, label: str, file: Path) -> list[str]:
    """Names of the classes, which `datasets` keeps in the schema's metadata; empty where there are none."""
    metadata = (columns.metadata or {}).get(b"huggingface")
    if metadata is None:
        return []
    try:
        feature = parse(METADATA, metadata).info.features.get(label)
    except ValueError as error:
        raise UserError(f"{file}: its metadata are damaged ({error}): download it again.\n{ABOUT}") from error
    return (feature.names or []) if isinstance(feature, Feature) else []


def write_image_parquet(path: Path, rows: list[dict[str, object]], labels: dict[str, tuple[str, ...]]) -> None:
    """Write rows of `image` (PNG or JPEG bytes), `caption` and labels, as `datasets` types and reads them.

    Args:
        labels: names of the classes of each column of labels.
    """
    import datasets

    kinds = {name: datasets.ClassLabel(names=list(classes)) for name, classes in labels.items()}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string"), **kinds})
    content = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(content, features=features).to_parquet(path)
