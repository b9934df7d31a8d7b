"""Pipelines of diffusers around a text-to-image model, of latents or of pixels; and the noise that they start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from common.models.text_to_image import TextToImage
from projects.faster_diffusion.keys import Keys
from projects.faster_diffusion.propagate import Mode

SPLITS = 1_000_000  # between the seeds of the splits' noise
SEEDS = 2 * SPLITS  # between those of a run's


@dataclass
class Reuse:
    """Propagation, as `projects.faster_diffusion.propagate` takes it.

    Attributes:
        keys: key steps.
        parallel: decode the steps between as one batch.
        alpha: of the prior noise injection; 0 for none.
        mode: what is reused.
    """

    keys: Keys = "paper"
    parallel: bool = True
    alpha: float = 0.0
    mode: Mode = "encoder"


def pipeline_of(model: TextToImage, scheduler: Any) -> Any:
    """diffusers' own pipeline, as it is; a model of pixels has no autoencoder, and what it draws is its latent."""
    found: Any = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    found.set_progress_bar_config(disable=True)
    return found


def draw(
    pipe: Any,
    model: TextToImage,
    captions: Sequence[str],
    noise: Tensor,
    steps: int,
    guidance: float,
) -> Tensor:
    """Pictures [B, 3, S, S] in [0, 1] from noise [B, C, h, w]."""
    scale = pipe.vae_scale_factor
    latents = pipe(
        list(captions),
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=noise.to(pipe.unet.dtype),
        height=scale * noise.shape[-2],
        width=scale * noise.shape[-1],
        output_type="latent",
    ).images
    return model.decode(latents).float()


def starting_noise(model: TextToImage, size: int, indices: Sequence[int], seed: int, split: int = 0) -> Tensor:
    """z_T of pictures of so many pixels a side by their numbers, whatever the batches and the arm; [B, C, h, w]."""
    side = size if model.vae is None else size // 2 ** (len(model.vae.config.block_out_channels) - 1)
    shape = (model.unet.config.in_channels, side, side)
    first = SEEDS * seed + SPLITS * split
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(first + int(k))) for k in indices]
    return torch.stack(drawn).to(model.unet.device)
