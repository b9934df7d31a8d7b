"""The teacher's own guided pictures of given captions, once for all arms and seeds: what DiffusionDB is at paper scale.

    python -m projects.lora_distill.pictures predict --config projects/lora_distill/configs/mini/pictures.yaml

Writes `<split>/pictures-<process>.parquet` for every split, in the hub's format: columns `image` and `caption`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from PIL import Image
from pydantic import NonNegativeFloat, PositiveInt

from common.cli import main, one_seed
from common.data.images import PictureData, to_uint8
from common.data.readers.image_parquet import write_image_parquet
from common.models.text_to_image import load_text_to_image


class TeacherPictures(L.LightningModule):
    """Draws every caption of every split.

    Args:
        text_to_image: hub id or folder of the teacher.
        guidance: its scale.
        steps: of DDIM.
    """

    run_dir: Path

    def __init__(self, text_to_image: str, guidance: NonNegativeFloat = 7.5, steps: PositiveInt = 50):
        super().__init__()
        self.t2i = load_text_to_image(text_to_image).requires_grad_(False).eval()
        self.guidance, self.steps = guidance, steps
        self.rows: dict[str, list[dict[str, object]]] = {}

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        rows = self.rows.setdefault(list(self.trainer.datamodule.sources)[dataloader_idx], [])  # type: ignore[attr-defined]
        noise = torch.Generator().manual_seed(10_000 * (10 * self.trainer.global_rank + dataloader_idx) + batch_idx)
        context = self.t2i.encode_text(batch["caption"])
        side = batch["image"].shape[-1]
        drawn = to_uint8(self.t2i.sample(context, self.steps, self.guidance, "ddim", side, noise))
        for image, caption in zip(drawn, batch["caption"], strict=True):
            encoded = BytesIO()
            Image.fromarray(image).save(encoded, "PNG")
            rows.append({"image": encoded.getvalue(), "caption": caption})

    def on_predict_end(self) -> None:
        for split, rows in self.rows.items():
            write_image_parquet(self.run_dir / split / f"pictures-{self.trainer.global_rank:03d}.parquet", rows, {})
        self.trainer.strategy.barrier()  # the stage is finished when every process is


if __name__ == "__main__":
    main(TeacherPictures, PictureData, links=one_seed)
