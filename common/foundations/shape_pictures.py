"""Draw the world of small labelled pictures once, for all stages that learn from it.

    python -m common.foundations.shape_pictures predict --config common/foundations/configs/mini/shape_pictures.yaml

Writes `train.parquet`, `val.parquet` and `test.parquet` in the hub's format: columns `image`, `caption`, `label` (the
shape) and `shape_and_colour`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from PIL import Image

from common.cli import main
from common.data.images import PictureData, to_uint8
from common.data.readers.image_parquet import write_image_parquet
from common.data.worlds.shape_crops import colour_of
from common.data.worlds.shape_layout import CLASSES, COLOURS

BOTH = tuple(f"{colour} {shape}" for shape in CLASSES for colour in COLOURS)


class PictureWriter(L.LightningModule):
    """Writes every split into a parquet file."""

    run_dir: Path

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        rows = self.rows.setdefault(list(self.trainer.datamodule.sources)[dataloader_idx], [])  # type: ignore[attr-defined]
        pixels = to_uint8(batch["image"])
        for image, label, caption in zip(pixels, batch["label"].tolist(), batch["caption"], strict=True):
            encoded = BytesIO()
            Image.fromarray(image).save(encoded, "PNG")
            both = label * len(COLOURS) + colour_of(caption)
            rows.append({"image": encoded.getvalue(), "caption": caption, "label": label, "shape_and_colour": both})

    def on_predict_end(self) -> None:
        for split, rows in self.rows.items():
            write_image_parquet(self.run_dir / f"{split}.parquet", rows, {"label": CLASSES, "shape_and_colour": BOTH})


if __name__ == "__main__":
    main(PictureWriter, PictureData)
