"""Steps along a diffusion model's trajectory, for any list of times: what a network's output means, and DDIM's rule.

    schedule = NoiseSchedule.of(scheduler)
    times = timesteps(scheduler, 50)
    for t, following in pairwise([*times, END]):
        output = unet(z, t, encoder_hidden_states=context).sample
        z = schedule.ddim(z, schedule.x0_of(output, z, t), t, following)

With a = alpha-bar of a time, z_t = sqrt(a) x0 + sqrt(1 - a) noise, and a network predicts the noise, x0, or the
velocity sqrt(a) noise - sqrt(1 - a) x0 (Salimans and Ho 2022).
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from common.errors import UserError

Prediction = Literal["epsilon", "v_prediction", "sample"]
Times = Tensor | int
"""A time for all samples, or one for each of them, [B]."""
END = -1
"""The time behind the last one: what stands there is the picture (see `NoiseSchedule.end`)."""


@dataclass(frozen=True)
class NoiseSchedule:
    """alpha-bar of every time, and what the network predicts.

    Attributes:
        alphas_cumprod: alpha-bar, falling, [T].
        prediction: of the network.
        end: alpha-bar at the end of a trajectory: 1 for a picture without noise; Stable Diffusion stops at that of
            time 0.
    """

    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"
    end: float = 1.0

    @classmethod
    def of(cls, scheduler: Any) -> "NoiseSchedule":
        """That of a scheduler of diffusers.

        Raises:
            UserError: its networks predict something else.
        """
        config = scheduler.config
        prediction = config.prediction_type
        if prediction not in get_args(Prediction):
            raise UserError(f"a network that predicts '{prediction}', not one of {', '.join(get_args(Prediction))}")
        alphas = scheduler.alphas_cumprod.float()
        return cls(alphas, prediction, 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0]))

    def alpha(self, t: Times, like: Tensor) -> Tensor:
        """alpha-bar of t, to be multiplied with `like` [B, ...], in its type; float32 at least."""
        t = torch.as_tensor(t, device=like.device)
        known = self.alphas_cumprod.to(like.device)[t.clamp(min=0)]
        alpha = torch.where(t < 0, torch.full_like(known, self.end), known)
        alpha = alpha.to(torch.promote_types(like.dtype, torch.float32))
        return alpha.reshape(-1, *[1] * (like.ndim - 1)) if alpha.ndim else alpha

    def noised(self, x0: Tensor, noise: Tensor, t: Times) -> Tensor:
        """z_t = sqrt(a) x0 + sqrt(1 - a) noise."""
        alpha = self.alpha(t, x0)
        return (alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise).to(x0.dtype)

    def x0_of(self, output: Tensor, z: Tensor, t: Times) -> Tensor:
        """The picture that a network's output at (z_t, t) stands for, [B, ...]."""
        alpha = self.alpha(t, z)
        if self.prediction == "sample":
            return output
        if self.prediction == "v_prediction":
            return (alpha.sqrt() * z - (1 - alpha).sqrt() * output).to(z.dtype)
        return ((z - (1 - alpha).sqrt() * output) / alpha.sqrt()).to(z.dtype)

    def noise_of(self, output: Tensor, z: Tensor, t: Times) -> Tensor:
        """The noise that it stands for, [B, ...]."""
        alpha = self.alpha(t, z)
        if self.prediction == "epsilon":
            return output
        if self.prediction == "v_prediction":
            return (alpha.sqrt() * output + (1 - alpha).sqrt() * z).to(z.dtype)
        return ((z - alpha.sqrt() * output) / (1 - alpha).sqrt()).to(z.dtype)

    def ddim(self, z: Tensor, x0: Tensor, t: Times, t_next: Times, noise: Tensor | None = None) -> Tensor:
        """DDIM's step without noise of its own (Song et al. 2021, eq. 12, eta 0), in either direction: z at `t_next`.

        Args:
            z: at time t, [B, ...].
            x0: the picture that is foreseen, clipped or not.
            t_next: `END` behind the last time.
            noise: that is foreseen; None takes what z and x0 leave. It is another where x0 was clipped, and diffusers'
                class then takes the network's.
        """
        alpha, after = self.alpha(t, z), self.alpha(t_next, z)
        if noise is None:
            noise = (z - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        return (after.sqrt() * x0 + (1 - after).sqrt() * noise).to(z.dtype)


def timesteps(scheduler: Any, steps: int) -> list[int]:
    """The times of so many steps, falling, spaced as the scheduler's config says; the scheduler itself stays as it is.

    Raises:
        UserError: more steps than there are times, or none.
    """
    known = scheduler.config.num_train_timesteps
    if not 1 <= steps <= known:
        raise UserError(f"{steps} steps of sampling: from 1 to {known} are possible")
    another = type(scheduler).from_config(scheduler.config)
    another.set_timesteps(steps)
    return [int(t) for t in another.timesteps]
