"""Stage 1, representation inheritance: the adapter learns to say of a text what CLIP's text encoder says. No pictures.

python -m projects.proclip.inherit fit --config projects/proclip/configs/mini/inherit.yaml --data.embeddings FOLDER
"""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from common.cli import main
from common.models.clip import load_clip
from common.training.schedules import adamw, optimizer_steps
from projects.proclip.data import CaptionData
from projects.proclip.losses import instance_alignment, structure_alignment
from projects.proclip.model import Adapter, check_width, decayed


class Inheritance(L.LightningModule):
    """L_1 = L_ins(a) + L_ins(b) + L_struct(a): two captions of a sample, the structure of the first alone.

    Args:
        clip: whose text encoder is the teacher: a name and tag of open_clip's, or a folder.
        dim: d of the embeddings.
        structure: have L_struct.
        lr: peak learning rate of AdamW.
        weight_decay: of matrices.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    def __init__(
        self,
        clip: str,
        dim: int,
        structure: bool = True,
        lr: float = 1e-3,
        weight_decay: float = 0.2,
        warmup_steps: int = 20,
    ):
        super().__init__()
        self.structure, self.lr, self.weight_decay, self.warmup_steps = structure, lr, weight_decay, warmup_steps
        teacher = load_clip(clip).requires_grad_(False).eval()
        self.teacher = [teacher]  # in a list: it is no part of this module's weights
        self.adapter = Adapter(dim, teacher.dim)

    @property
    def tokenizer(self) -> Any:
        return self.teacher[0].tokenizer

    def setup(self, stage: str) -> None:
        check_width(self.adapter, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_fit_start(self) -> None:
        self.teacher[0].to(self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        a, b = (self.adapter(batch["embeddings"][:, view]) for view in (0, 1))
        with torch.no_grad():
            target_a, target_b = (self.teacher[0].texts(batch["tokens"][:, view]) for view in (0, 1))
        instance = instance_alignment(a, target_a) + instance_alignment(b, target_b)
        structure = structure_alignment(a, target_a) if self.structure else a.new_zeros(())
        self.log_dict({"train/instance": instance / len(a), "train/structure": structure})
        loss = instance + structure
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(decayed(self.adapter, self.weight_decay), self.lr, self.weight_decay, self.warmup_steps, steps)

    def exported(self) -> Adapter:
        return self.adapter


def links(parser: Any) -> None:
    """CLIP's tokenizer makes the data's tokens."""
    parser.link_arguments("model.tokenizer", "data.tokenizer", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Inheritance, CaptionData, links=links)
