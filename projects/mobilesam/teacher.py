"""The frozen teacher, for the stages that only ask it."""

import lightning.pytorch as L
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from common.models.sam import SamConfig, build_sam
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


def load_teacher(config: SamConfig, weights: str) -> Sam:
    """A SAM with the weights of `weights`, frozen, in evaluation mode."""
    sam = load_weights(build_sam(config), expand(weights, "model.teacher_weights"))
    return sam.requires_grad_(False).eval()
