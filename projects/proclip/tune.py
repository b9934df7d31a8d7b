"""Stage 2, contrastive tuning: adapter and image encoder learn from pairs, held near what the encoder was just before.

    python -m projects.proclip.tune fit --config projects/proclip/configs/mini/tune.yaml --data.embeddings FOLDER \\
        --model.adapter FILE
"""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from common.cli import main, one_seed
from common.losses.contrastive import clip_loss
from common.models.clip import load_clip
from common.paths import expand
from common.training.ema import Ema
from common.training.schedules import adamw, optimizer_steps
from projects.proclip.data import PairData
from projects.proclip.losses import instance_alignment, structure_alignment
from projects.proclip.model import Adapter, Tuned, check_width, decayed, load_adapter


class Tuning(L.LightningModule):
    """L_2 = L_info + lambda (L_ins + L_struct), the last two between the image encoder and its moving average.

    A fresh adapter and no lambda are LLM2CLIP's direct tuning, with a frozen image encoder LiT.

    Args:
        clip: whose image encoder is tuned: a name and tag of open_clip's, or a folder.
        dim: d of the embeddings.
        adapter: what stage 1 has left; None begins with a fresh one.
        tune_images: train the image encoder; False leaves it as it is.
        weight: lambda.
        structure: have L_struct in it.
        decay: of the moving average; 1 keeps the teacher that CLIP's encoder was.
        lr: peak learning rate of AdamW for the adapter and the logit scale.
        image_lr: for the image encoder.
        weight_decay: of matrices.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        clip: str,
        dim: int,
        adapter: str | None = None,
        tune_images: bool = True,
        weight: float = 0.02,
        structure: bool = True,
        decay: float = 0.998,
        lr: float = 1e-3,
        image_lr: float = 1e-3,
        weight_decay: float = 0.2,
        warmup_steps: int = 20,
    ):
        super().__init__()
        self.weight, self.structure = weight if tune_images else 0.0, structure
        self.lr, self.image_lr, self.weight_decay, self.warmup_steps = lr, image_lr, weight_decay, warmup_steps
        source = load_clip(clip)
        given = load_adapter(expand(adapter, "model.adapter")) if adapter else Adapter(dim, source.dim)
        self.net = Tuned(given, source)
        self.net.visual.requires_grad_(tune_images)
        self.teacher = Ema(self.net.visual, decay) if self.weight else None

    def setup(self, stage: str) -> None:
        check_width(self.net.adapter, self.trainer.datamodule)  # type: ignore[attr-defined]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        images, texts = self.net.images(batch["image"]), self.net.adapter(batch["embedding"])
        loss = contrast = clip_loss(images.float(), texts.float(), self.net.logit_scale.exp())
        if self.teacher is not None:
            with torch.no_grad():
                before = self.net.images(batch["image"], self.teacher)
            kept = instance_alignment(images, before)
            if self.structure:
                kept = kept + structure_alignment(images, before)
            loss = contrast + self.weight * kept
            self.log("train/kept", kept)
        self.log_dict({"train/loss": loss, "train/contrast": contrast})
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.net.clamp_scale()
        if self.teacher is not None:
            self.teacher.update(self.net.visual)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        images = [
            {**group, "lr_scale": self.image_lr / self.lr} for group in decayed(self.net.visual, self.weight_decay)
        ]
        scale = {"params": [self.net.logit_scale], "weight_decay": 0.0}
        groups = [*decayed(self.net.adapter, self.weight_decay), scale, *images]
        return adamw(groups, self.lr, self.weight_decay, self.warmup_steps, optimizer_steps(self.trainer))

    def exported(self) -> Tuned:
        return self.net


if __name__ == "__main__":
    main(Tuning, PairData, links=one_seed)
