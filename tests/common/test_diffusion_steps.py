"""Steps of diffusion: closed forms, diffusers' own scheduler, any list of times, golden vectors."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from safetensors import safe_open

from common.errors import UserError
from common.models.diffusion_steps import END, NoiseSchedule, timesteps
from tests.golden import golden_file

PREDICTIONS = ("epsilon", "v_prediction", "sample")
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
STABLE = {**LATENT, "steps_offset": 1, "set_alpha_to_one": False}


def draws(count=2, shape=(3, 4, 8, 8)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def output_for(schedule, prediction, x0, noise, t):
    """What a perfect network says."""
    alpha = schedule.alpha(t, x0)
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    return {"epsilon": noise, "v_prediction": velocity, "sample": x0}[prediction]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_perfect_networks_say_picture_and_noise(prediction):
    schedule = NoiseSchedule.of(DDIMScheduler(**STABLE, prediction_type=prediction))
    x0, noise = draws()
    t = torch.tensor([10, 500, 900])  # a time for each sample
    z = schedule.noised(x0, noise, t)
    output = output_for(schedule, prediction, x0, noise, t)
    torch.testing.assert_close(schedule.x0_of(output, z, t), x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(schedule.noise_of(output, z, t), noise, atol=1e-4, rtol=1e-4)


def test_a_step_of_ddim_stays_on_the_trajectory_whatever_its_length_and_direction():
    schedule = NoiseSchedule.of(DDIMScheduler(**STABLE))
    x0, noise = draws()
    z = schedule.noised(x0, noise, 500)
    for t_next in (499, 17, 980):
        expected = schedule.noised(x0, noise, t_next)
        torch.testing.assert_close(schedule.ddim(z, x0, 500, t_next), expected, atol=1e-5, rtol=1e-5)
    assert NoiseSchedule.of(DDIMScheduler(**LATENT)).ddim(z, x0, 500, END).equal(x0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("settings", [LATENT, STABLE])
def test_ddim_is_that_of_diffusers(prediction, settings):
    scheduler = DDIMScheduler(**settings, prediction_type=prediction)
    schedule, times = NoiseSchedule.of(scheduler), timesteps(scheduler, 5)
    scheduler.set_timesteps(5)
    z, output = draws()
    for t, after in pairwise([*times, END]):
        expected = scheduler.step(output, t, z).prev_sample
        found = schedule.ddim(z, schedule.x0_of(output, z, t), t, after)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        z = expected


def test_ddim_with_clipped_pictures_is_that_of_diffusers():
    scheduler = DDIMScheduler(clip_sample=True)
    schedule, times = NoiseSchedule.of(scheduler), timesteps(scheduler, 4)
    scheduler.set_timesteps(4)
    z, output = draws()
    x0 = schedule.x0_of(output, z, times[0]).clamp(-1, 1)
    found = schedule.ddim(z, x0, times[0], times[1], schedule.noise_of(output, z, times[0]))
    torch.testing.assert_close(found, scheduler.step(output, times[0], z).prev_sample, atol=1e-5, rtol=1e-5)


def test_times_are_spaced_as_the_scheduler_says_and_leave_it_alone():
    scheduler = DPMSolverMultistepScheduler(timestep_spacing="trailing")
    before = scheduler.timesteps.clone()
    assert timesteps(scheduler, 4) == [999, 749, 499, 249]
    assert timesteps(DDIMScheduler(**STABLE), 50)[:2] == [981, 961]
    assert scheduler.timesteps.equal(before)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_users_errors(steps):
    with pytest.raises(UserError, match="from 1 to 1000"):
        timesteps(DDIMScheduler(), steps)


def test_a_network_that_predicts_something_else_is_refused():
    config = SimpleNamespace(prediction_type="flow_prediction")
    with pytest.raises(UserError, match="flow_prediction"):
        NoiseSchedule.of(SimpleNamespace(config=config))


def test_half_precision_keeps_its_kind_and_computes_in_float32():
    schedule = NoiseSchedule.of(DDIMScheduler(**STABLE))
    z, output = (x.half() for x in draws())
    found = schedule.ddim(z, schedule.x0_of(output, z, 981), 981, 961)
    expected = schedule.ddim(z.float(), schedule.x0_of(output.float(), z.float(), 981), 981, 961)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.01)


def test_golden_ddim_solver():
    """A knot's steps of DDIM, in the table of times that its file has."""
    file = golden_file("mcm")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as golden:
        case = {n.removeprefix("ddim_solver/"): golden.get_tensor(n) for n in golden.keys() if "ddim_solver" in n}  # noqa: SIM118
    times, index = case["out.timesteps"].long(), case["in.index"].long()
    earlier = torch.cat([times.new_zeros(1), times[:-1]])
    schedule, x0 = NoiseSchedule(case["in.alphas_cumprod"].float()), case["in.pred_x0"]
    found = schedule.ddim(torch.zeros_like(x0), x0, times[index], earlier[index], case["in.pred_noise"])
    torch.testing.assert_close(found, case["out.x_prev"].float(), atol=1e-5, rtol=1e-4)
