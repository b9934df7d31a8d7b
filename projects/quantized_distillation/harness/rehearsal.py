"""Stand-ins for what the paper's configs read: few made-up pictures, again and again, in CIFAR-10's number of rows."""

from io import BytesIO
from pathlib import Path

import datasets
from PIL import Image

from common.rehearsal.datasets import write_parquet
from common.rehearsal.sa1b import make_scene

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ROWS = {"train": 50_000, "test": 10_000}
DISTINCT = 50


def make(folder: Path) -> None:
    """Write `data/cifar10/plain_text/{train,test}-00000-of-00001.parquet`, as the hub has them."""
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    pictures = [{"img": {"bytes": _png(k), "path": None}, "label": k % len(CLASSES)} for k in range(DISTINCT)]
    for split, rows in ROWS.items():
        path = folder / f"data/cifar10/plain_text/{split}-00000-of-00001.parquet"
        write_parquet(path, pictures * (rows // DISTINCT), features)


def _png(number: int) -> bytes:
    content = BytesIO()
    Image.fromarray(make_scene(number, (32, 32))[0]).save(content, "PNG")
    return content.getvalue()
