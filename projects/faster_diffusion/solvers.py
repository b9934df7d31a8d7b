"""Solvers of the reverse process: diffusers' own, and DDIM at any list of times, the fairest control of a key list."""

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from common.models.diffusion_steps import END, NoiseSchedule, timesteps
from projects.faster_diffusion.keys import Keys, key_steps

Solver = Literal["ddim", "dpm", "dpm++"]


def build_solver(config: Any, solver: Solver, steps: int, only: Keys | None = None) -> Any:
    """A scheduler of diffusers with a model's noise schedule.

    Args:
        config: of the model's own scheduler.
        solver: "dpm" is DPM-Solver of the second order, "dpm++" the same in its form for guided sampling.
        only: DDIM at the times of these key steps alone, of a trajectory of `steps`.
    """
    own = {"steps_offset": 1}  # which Stable Diffusion's pipeline would set by itself
    if solver in ("dpm", "dpm++"):
        kind = {"dpm": "dpmsolver", "dpm++": "dpmsolver++"}[solver]
        final = {"dpm": "sigma_min", "dpm++": "zero"}[solver]  # the former cannot step to where no noise is
        return DPMSolverMultistepScheduler.from_config(config, algorithm_type=kind, final_sigmas_type=final, **own)
    if only is None:
        return DDIMScheduler.from_config(config, **own)
    known = DDIMScheduler.from_config(config, **own)
    times = timesteps(known, steps)
    found = ListedTimes.from_config(config, **own)
    found.listed = [times[step] for step in key_steps(only, steps)]
    return found


class ListedTimes(DDIMScheduler):
    """DDIM without noise of its own at `listed` times, whatever lies between them. Pipelines ask for as many steps."""

    config: Any
    listed: list[int]

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        self.num_inference_steps = len(self.listed)
        self.timesteps = torch.tensor(self.listed, device=device)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True, **_: Any) -> Any:
        place = self.listed.index(int(timestep))
        after = [*self.listed, END][place + 1]
        schedule = NoiseSchedule.of(self)
        x0 = schedule.x0_of(model_output, sample, int(timestep))
        noise = schedule.noise_of(model_output, sample, int(timestep))
        if self.config.clip_sample:
            x0 = x0.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        stepped = schedule.ddim(sample, x0, int(timestep), after, noise)
        return DDIMSchedulerOutput(stepped, x0) if return_dict else (stepped,)
