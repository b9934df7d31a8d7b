"""Consistency distillation with classifier-free guidance: the knots, the boundary condition, the solver, the loss.

Formulas follow Luo et al. 2023 (Latent Consistency Models), which MCM builds on, with MCM's numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.diffusion_steps import NoiseSchedule, Prediction

Network = Callable[[Tensor, Tensor], Tensor]
"""(z_t [B, ...], t [B]) -> the network's output [B, ...]."""

SIGMA_DATA = 0.5


def expand(values: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, ...], to be multiplied with `like`, in its type."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def boundary_scalings(t: Tensor, timestep_scaling: float) -> tuple[Tensor, Tensor]:
    """c_skip and c_out at timesteps t [B], with a = s t and sigma = 0.5.

    c_skip = sigma^2 / (a^2 + sigma^2), c_out = a / sqrt(a^2 + sigma^2); at t = 0 they are 1 and 0.
    """
    a = timestep_scaling * t.float()
    denominator = a**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / denominator, a / denominator.sqrt()


def guidance_embedding(w: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of guidance scales w [B], [B, dim]: sines, then cosines, of 1000 w; a zero if dim is odd."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, device=w.device, dtype=torch.float32))
    angles = 1000 * w.float()[:, None] * frequencies
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, dim % 2))


def pseudo_huber(predicted: Tensor, target: Tensor, c: float = 0.001) -> Tensor:
    """mean( sqrt((x - y)^2 + c^2) - c )."""
    return ((predicted - target).square() + c**2).sqrt().sub(c).mean()


@dataclass
class Step:
    """One step along a teacher's trajectory.

    Attributes:
        start: timesteps t [B].
        next: timesteps t' [B].
        noisy: z_t.
        predicted: f(z_t, t), with gradient.
        previous: z', where the teacher's step leads.
        target: f(z', t').
    """

    start: Tensor
    next: Tensor
    noisy: Tensor
    predicted: Tensor
    previous: Tensor
    target: Tensor


class Consistency(nn.Module):
    """The discretised trajectory with N knots t_i = (i + 1) T/N - 1, and what happens between two of them.

    Args:
        alphas_cumprod: alpha-bar of the timesteps, [T].
        knots: N; T is a multiple of it.
        timestep_scaling: s of the boundary condition; sampling has to use the same.
        prediction: what the networks predict.
    """

    alphas_cumprod: Tensor
    timesteps: Tensor
    alpha_knots: Tensor
    alpha_previous: Tensor

    def __init__(
        self, alphas_cumprod: Tensor, knots: int = 50, timestep_scaling: float = 4.0, prediction: Prediction = "epsilon"
    ):
        super().__init__()
        self.knots, self.timestep_scaling, self.prediction = knots, timestep_scaling, prediction
        alphas = alphas_cumprod.float()  # in float64, as the official table is, the products would become float64 too
        self.stride = len(alphas) // knots
        timesteps = torch.arange(1, knots + 1) * self.stride - 1
        tables = {
            "alphas_cumprod": alphas,
            "timesteps": timesteps,
            "alpha_knots": alphas[timesteps],
            "alpha_previous": torch.cat([alphas[:1], alphas[timesteps[:-1]]]),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def endpoints(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps t and t' = max(t - T/N, 0) of the steps that start at knots `index` [B]."""
        start = self.timesteps[index]
        return start, (start - self.stride).clamp(min=0)

    def add_noise(self, latents: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps; at the last knot pure noise, as sampling starts from."""
        abar = expand(self.alpha_knots[index], latents)
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        return torch.where(expand(index == self.knots - 1, latents) > 0, noise, noisy)

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.alphas_cumprod, self.prediction)

    def x0(self, output: Tensor, sample: Tensor, t: Tensor) -> Tensor:
        """The latent that a network's output at (sample, t [B]) stands for."""
        return self.schedule.x0_of(output, sample, t)

    def noise(self, output: Tensor, sample: Tensor, t: Tensor) -> Tensor:
        """The noise that a network's output at (sample, t [B]) stands for."""
        return self.schedule.noise_of(output, sample, t)

    def consistent(self, network: Network, sample: Tensor, t: Tensor) -> Tensor:
        """f(z_t, t) = c_skip z_t + c_out x0."""
        skip, out = (expand(scale, sample) for scale in boundary_scalings(t, self.timestep_scaling))
        return skip * sample + out * self.x0(network(sample, t), sample, t)

    def ddim(self, x0: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """z' = sqrt(abar_prev) x0 + sqrt(1 - abar_prev) eps: from knot `index` [B] to the one before, or to t = 0."""
        abar = expand(self.alpha_previous[index], x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise

    @torch.no_grad()
    def teach(
        self, guided: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], noisy: Tensor, index: Tensor, w: Tensor
    ) -> Tensor:
        """The teacher's guided step from knot `index`: x = x_c + w (x_c - x_u), for x0 and for the noise.

        Args:
            guided: (z_t, t) -> the teacher's outputs with the caption and without.
            w: guidance of each sample, [B]; 0 for none. The scale as pipelines count it is w + 1.
        """
        t, _ = self.endpoints(index)
        conditional, unconditional = guided(noisy, t)
        weight = expand(w, noisy)
        x0_c, x0_u = (self.x0(output, noisy, t) for output in (conditional, unconditional))
        eps_c, eps_u = (self.noise(output, noisy, t) for output in (conditional, unconditional))
        return self.ddim(x0_c + weight * (x0_c - x0_u), eps_c + weight * (eps_c - eps_u), index)

    def step(
        self,
        latents: Tensor,
        noise: Tensor,
        index: Tensor,
        w: Tensor,
        student: Network,
        teacher: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        target: Network,
    ) -> Step:
        """Steps 1 to 7 of the distillation, for latents [B, C, F, h, w] at knots `index` [B].

        Args:
            target: the student itself, or its moving average; without gradient.
        """
        start, after = self.endpoints(index)
        noisy = self.add_noise(latents, noise, index)
        predicted = self.consistent(student, noisy, start)
        previous = self.teach(teacher, noisy, index, w)
        with torch.no_grad():
            goal = self.consistent(target, previous, after)
        return Step(start, after, noisy, predicted, previous, goal)
