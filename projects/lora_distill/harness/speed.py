"""What `make speed PAPER=lora_distill` measures: a step of drawing with Stable Diffusion 2.1's U-Net at 512 pixels."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from common.models.text_to_image import guided
from common.workload import Network, Speed
from projects.lora_distill.harness.plan import TOKENS, UNET

GUIDED = "guided step, two evaluations"


class GuidedStep(nn.Module):
    """e_u + w (e_c - e_u): both in one batch."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """[1, 4, h, w], [1], [2, N, d] for the caption and the empty text."""
        conditional, unconditional = self.unet(latents.repeat(2, 1, 1, 1), t.repeat(2), context).sample.chunk(2)
        return guided(conditional, unconditional, 7.5)


def speed() -> Speed:
    """The teacher's guided step beside the student's, whose updates are merged."""
    return Speed(
        networks=(
            Network(GUIDED, _guided, giant=True),
            Network("student's step, one evaluation", _student, GUIDED, giant=True),
        )
    )


def _inputs(contexts: int) -> tuple[Tensor, ...]:
    side = UNET["sample_size"]
    t = torch.zeros(1, dtype=torch.long)
    return torch.zeros(1, 4, side, side), t, torch.zeros(contexts, TOKENS, UNET["cross_attention_dim"])


def _unet() -> Any:
    return UNet2DConditionModel(**UNET).eval()


def _guided() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return GuidedStep(_unet()).eval(), _inputs(2)


def _student() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _unet(), _inputs(1)
