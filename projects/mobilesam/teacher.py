"""The frozen teacher: all of it for the stages that only ask it, its decoder alone where embeddings are stored."""

from typing import Any

import lightning.pytorch as L
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from common.models.sam import SamConfig, build_sam
from common.models.sam_checkpoint import segmenter_state
from common.paths import expand
from common.training.weights import load_weights


class FrozenTeacher(L.LightningModule):
    """A SAM in evaluation mode, loaded from its checkpoint.

    Args:
        teacher: sizes of the teacher SAM.
        teacher_weights: SAM's published checkpoint, or a foundation's weights.
    """

    def __init__(self, teacher: SamConfig, teacher_weights: str):
        super().__init__()
        self.sam = load_teacher(teacher, teacher_weights)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, C, S/16, S/16]."""
        return self.sam.image_encoder(images)


class NoEncoder(nn.Module):
    """In the place of an image encoder that is not needed: ViT-H takes 2.5 GB."""

    def __init__(self, image_size: int):
        super().__init__()
        self.img_size = image_size

    def forward(self, images: Tensor) -> Any:
        raise RuntimeError("this SAM was loaded without its image encoder")


def load_teacher(config: SamConfig, weights: str, encoder: bool = True) -> Sam:
    """A SAM with the weights of `weights`, frozen, in evaluation mode; `encoder` False leaves its image encoder out."""
    state = segmenter_state(expand(weights, "model.teacher_weights"))
    if encoder:
        sam = load_weights(build_sam(config), state)
    else:
        sam = build_sam(config, NoEncoder(config.image_size))
        load_weights(sam, {k: v for k, v in state.items() if not k.startswith("image_encoder.")})
    return sam.requires_grad_(False).eval()
