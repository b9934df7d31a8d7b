"""Videos from noise: the teacher in many guided steps, the student in a few without guidance."""

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from einops import rearrange
from torch import Tensor

from projects.mcm.model import VideoDiffusion, VideoUNet, denoise

Solver = Literal["ddim", "dpm"]
SOLVERS: dict[Solver, Any] = {"ddim": DDIMScheduler, "dpm": DPMSolverMultistepScheduler}


@torch.no_grad()
def sample_teacher(
    model: VideoDiffusion, captions: list[str], noise: Tensor, steps: int, guidance: float, solver: Solver = "ddim"
) -> Tensor:
    """Latents [B, 4, F, h, w] from noise of that shape, with eps = eps_c + w (eps_c - eps_u).

    Few timesteps are spaced as the teacher's own scheduler has it: "leading" (diffusers' default) reaches the last one
    in many steps only, and in one step it starts at the first.

    Args:
        guidance: w; what pipelines call the scale is w + 1.
    """
    scheduler = SOLVERS[solver].from_config(model.scheduler.config)
    scheduler.set_timesteps(steps, device=noise.device)
    context = model.encode_text([*captions, *[""] * len(captions)])
    latents = noise
    for t in scheduler.timesteps:
        predicted = denoise(model.unet, torch.cat([latents] * 2), t.expand(2 * len(latents)), context)
        conditional, unconditional = predicted.chunk(2)
        guided = conditional + guidance * (conditional - unconditional)
        latents = in_frames(scheduler, guided, t, latents)
    return latents


@torch.no_grad()
def sample_student(
    model: VideoDiffusion,
    unet: VideoUNet,
    captions: list[str],
    noise: Tensor,
    steps: int,
    knots: int,
    timestep_scaling: float,
    generator: torch.Generator | None = None,
    guidance: Tensor | None = None,
) -> Tensor:
    """Latents [B, 4, F, h, w] by multistep consistency sampling: denoise, add fresh noise, denoise, ...

    Args:
        knots: and `timestep_scaling`: those of the distillation.
        generator: of the noise between steps, on the CPU.
        guidance: embedded guidance scale, of a student that was trained with one.
    """
    scheduler = LCMScheduler.from_config(
        model.scheduler.config,
        original_inference_steps=knots,
        timestep_scaling=timestep_scaling,
        clip_sample=False,
    )
    scheduler.set_timesteps(steps, device=noise.device)
    context = model.encode_text(captions)
    latents = noise
    for t in scheduler.timesteps:
        predicted = denoise(unet, latents, t.expand(len(latents)), context, guidance)
        latents = in_frames(scheduler, predicted, t, latents, generator=generator)
    return latents


def in_frames(scheduler: Any, predicted: Tensor, t: Tensor, latents: Tensor, **given: Any) -> Tensor:
    """A scheduler's step over pictures, for videos: some take the second axis for that of the channels."""
    flat = [rearrange(x, "b c f h w -> (b f) c h w") for x in (predicted.float(), latents)]
    stepped = scheduler.step(flat[0], t, flat[1], **given).prev_sample
    return rearrange(stepped, "(b f) c h w -> b c f h w", b=len(latents))
