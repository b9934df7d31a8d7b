"""A small CLIP, trained once on the world of tiles and cached: recipes about image-text models start from it.

    python -m common.foundations.clip fit --config common/foundations/configs/mini/tile_clip.yaml

open_clip's own classes, with a tokenizer that knows all words of the world. Leaves the run folder's `model/`, as
`common.models.clip.load_clip` reads it. At paper scale the foundation is a published checkpoint, and this is not run.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from common.cli import main
from common.data.images import PictureData
from common.data.words import word_tokenizer
from common.data.worlds.tile_words import TEMPLATES, vocabulary
from common.losses.contrastive import clip_loss
from common.models.clip import ClipSizes, build_clip
from common.training.schedules import adamw, optimizer_steps

CONTEXT = 32  # tokens of a text, its ends included: the longest of a scene with two objects has 21


class ClipTraining(L.LightningModule):
    """CLIP's symmetric loss over captioned pictures (Radford et al. 2021, section 2.3).

    What it learned is told by its zero-shot accuracy over the validation pictures' kinds, `val/accuracy`.

    Args:
        sizes: of the towers.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        sizes: ClipSizes,
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 50,
    ):
        super().__init__()
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.clip = build_clip(sizes, tokenizer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = clip_loss(self.clip.images(batch["image"]), self.clip.texts(batch["caption"]), self.clip.scale)
        self.log("train/loss", loss, batch_size=len(batch["image"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        self.vectors = self.clip.class_vectors(self.pictures.source("val").classes, TEMPLATES)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        correct = (self.clip.images(batch["image"]) @ self.vectors.T).argmax(1) == batch["label"]
        self.log("val/accuracy", correct.float().mean(), batch_size=len(correct), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.clip.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    @property
    def pictures(self) -> PictureData:
        return self.trainer.datamodule  # type: ignore[attr-defined, no-any-return]

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.clip.save_pretrained(self.run_dir / "model")

    def exported(self) -> nn.Module:
        return self.clip.net


class TilePictures(PictureData):
    """Pictures of tiles, and a tokenizer of all words that can be said of them."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return word_tokenizer(vocabulary(), length=CONTEXT, ends=True)


def links(parser: Any) -> None:
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.image_size", "model.sizes.image_size")
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(ClipTraining, TilePictures, links=links)
