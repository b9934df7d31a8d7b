"""What `make speed PAPER=faster_diffusion` measures: steps of Stable Diffusion 1.5 in full, and with one key step."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from common.workload import Network, Speed
from projects.faster_diffusion.cost import SD15, TOKENS
from projects.faster_diffusion.keys import Keys
from projects.faster_diffusion.propagate import propagate

STEPS = 5  # the median group of the paper's key steps


class Steps(nn.Module):
    """Successive steps of the U-Net, without the solver's between: latents and text of one sample -> the last noise."""

    def __init__(self, unet: Any, keys: Keys):
        super().__init__()
        self.unet, self.keys = unet, keys

    def forward(self, latents: Tensor, text: Tensor) -> Tensor:
        pipe: Any = SimpleNamespace(unet=self.unet, scheduler=DDIMScheduler())
        pipe.scheduler.set_timesteps(STEPS, device="cpu")
        said = latents
        with propagate(pipe, self.keys, alpha=0):
            for t in pipe.scheduler.timesteps:
                said = self.unet(latents, t, encoder_hidden_states=text).sample
        return said


def speed() -> Speed:
    """A step in full beside one of the paper's groups; a picture of 512 x 512, without guidance."""
    full = f"Stable Diffusion 1.5, {STEPS} steps in full"
    return Speed(
        networks=(
            Network(full, _steps("all"), giant=True),
            Network(f"Stable Diffusion 1.5, {STEPS} steps with one key step", _steps(STEPS), full, giant=True),
        )
    )


def _steps(keys: Keys) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
        side = SD15["sample_size"]
        given = torch.zeros(1, 4, side, side), torch.zeros(1, TOKENS, SD15["cross_attention_dim"])
        network: Any = UNet2DConditionModel(**SD15)
        return Steps(network.eval(), keys), given

    return build
