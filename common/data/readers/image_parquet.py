"""Image data sets as the hub stores them: parquet files with encoded images and labels typed in the schema."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.data.files import decode_rgb
from common.data.images import Picture, PictureSource
from common.errors import UserError
from common.paths import expand


class ImageParquet(PictureSource):
    """Rows of one or several parquet files; the encoded images stay in memory (CIFAR-10: 18 MB as JPEG).

    Args:
        files: a file, or a pattern as "$DATA_ROOT/cifar10/train-*.parquet".
        label: column of the labels ("fine_label" for CIFAR-100).
        limit: use the first so many rows.

    Raises:
        UserError: no such file, a damaged one, no column of images, or no column of that name.
    """

    def __init__(self, files: str, label: str = "label", limit: int | None = None):
        path = expand(files, "files")
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise UserError(f"no parquet files at {path}: download the data set's parquet files from the hub")
        try:
            tables = [pq.read_table(file) for file in found]
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"cannot read {found[0]} as parquet ({error}): download it again") from error
        table = pa.concat_tables(tables)[:limit]
        images = [field.name for field in table.schema if pa.types.is_struct(field.type)]
        if len(images) != 1:
            raise UserError(f"{found[0]} has {len(images)} columns of images, not one: {', '.join(table.column_names)}")
        if label not in table.column_names:
            raise UserError(f"{found[0]} has no column '{label}', only {', '.join(table.column_names)}")
        self.name = found[0]
        self.images = table[images[0]].combine_chunks().field("bytes")
        self.labels = table[label].to_pylist()
        self.captions = table["caption"].to_pylist() if "caption" in table.column_names else [""] * len(table)
        self.classes = tuple(_class_names(table.schema, label))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Picture:
        name = f"{self.name}:{index}"
        image = decode_rgb(self.images[index].as_py() or b"", name)
        return Picture(image, int(self.labels[index]), self.captions[index], name)


def _class_names(schema: pa.Schema, label: str) -> list[str]:
    """Names of the classes, which `datasets` keeps in the schema's metadata; empty where there are none."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    return features.get(label, {}).get("names", [])


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
