"""Encoder propagation on diffusers' pipelines: exact where it must be; the pipelines are given back as they were."""

import diffusers
import pytest
import torch
from torch import nn

from common.errors import UserError
from projects.faster_diffusion.keys import NAMED, key_steps
from projects.faster_diffusion.propagate import encoder_of, propagate
from projects.faster_diffusion.solvers import build_solver
from tests.projects.faster_diffusion_small import (
    STABLE,
    animated,
    controlled,
    deepfloyd,
    dit,
    draw,
    groups,
    noise,
    scheduler,
    sdxl,
    stable_diffusion,
    unet,
    video,
)  # fmt: skip

PIPELINES = [sdxl, deepfloyd, controlled, video, animated, dit]


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


def everything(module: nn.Module):
    """What could have been changed: classes, attributes, hooks."""
    return {name: (type(part), sorted(part.__dict__)) for name, part in module.named_modules()}


def test_groups_of_the_papers_key_steps():
    found = groups("paper", 50)
    assert [start for start, _ in found] == [0, 1, 2, 3, 5, 10, 15, 25, 35]
    assert [length for _, length in found] == [1, 1, 1, 2, 5, 5, 10, 10, 15]
    assert all(sum(length for _, length in groups(name, total)) == total for name in NAMED for total in NAMED[name])
    assert [len(steps) for steps in (NAMED["if"][100], NAMED["if"][75])] == [40, 11]
    assert all(len(NAMED[name][50]) == 9 for name in ("paper", "uniform-9", "nonuniform-1", "nonuniform-2"))
    assert key_steps("all", 3) == (0, 1, 2)


@pytest.mark.parametrize(
    ("keys", "total", "said"),
    [
        ("papre", 50, "did you mean paper"),
        ("paper", 30, "20 or 50 steps"),
        (0, 50, "every 0-th"),
        ((1, 2), 50, "step 0"),
        ((), 50, "step 0"),
        ((0, 50), 50, "key step 50 is not among 50"),
    ],
)
def test_impossible_key_steps_are_users_errors(keys, total, said):
    with pytest.raises(UserError, match=said):
        key_steps(keys, total)


@pytest.mark.parametrize("make", PIPELINES)
def test_pipelines_reuse_features_and_are_given_back_untouched(make):
    pipe, call = make()
    network = getattr(pipe, "unet", None) or pipe.transformer
    before, plain = everything(network), call()
    with propagate(pipe, "all", alpha=0):
        assert call().equal(plain)
    with propagate(pipe, 3, parallel=False, alpha=0) as counts:
        sequential = call()
    assert (counts.encoder_calls, counts.decoder_calls) == (4, 10)
    rows = counts.decoder_rows
    with propagate(pipe, 3, parallel=True, alpha=0) as counts:
        parallel = call()
    assert (counts.encoder_calls, counts.decoder_calls, counts.decoder_rows) == (4, 4, rows)
    close(parallel, sequential)
    assert (sequential - plain).abs().max() > 1e-3
    assert everything(network) == before
    assert call().equal(plain)


@pytest.mark.parametrize(
    "kind", ["PNDMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_schedulers_with_a_memory_or_a_scale_of_their_own(kind):
    pipe = stable_diffusion(kind=getattr(diffusers, kind))
    with propagate(pipe, 4, parallel=False, alpha=0) as counts:
        sequential = draw(pipe)
    with propagate(pipe, 4, alpha=0):
        close(draw(pipe), sequential)
    assert counts.encoder_calls == 3


def test_the_papers_key_steps_go_with_pndm_which_calls_once_more():
    pipe = stable_diffusion(kind=diffusers.PNDMScheduler)
    with propagate(pipe) as counts:
        draw(pipe, steps=50)
    assert (counts.encoder_calls, counts.decoder_rows) == (9, 4 * 51)


def test_between_key_steps_time_matters():
    pipe, said = stable_diffusion(), []
    pipe.scheduler.set_timesteps(4)
    text = noise(2, 5, 8)
    with propagate(pipe, 4, parallel=False, alpha=0), torch.no_grad():
        for place, seed in ((0, 1), (1, 2), (2, 3)):
            t = pipe.scheduler.timesteps[place]
            said.append(pipe.unet(noise(2, 4, 8, 8, seed=seed), t, encoder_hidden_states=text).sample)
    assert not said[1].equal(said[2])


def test_a_second_run_starts_afresh_after_an_interrupted_one():
    pipe = stable_diffusion()
    with propagate(pipe, 5, alpha=0):
        alone = draw(pipe)

        def stop(pipe, step, t, values):
            if step == 1:
                raise KeyboardInterrupt
            return values

        with pytest.raises(KeyboardInterrupt):
            draw(pipe, latents=noise(2, 4, 8, 8, seed=9), callback_on_step_end=stop)
        assert draw(pipe).equal(alone)


@pytest.mark.parametrize("parallel", [False, True])
def test_guidance_that_ends_on_the_way_is_followed(parallel):
    """The batch halves in the middle of a group: that step runs in full."""

    def unguided(pipe, step, t, values):
        if step == 1:
            pipe._guidance_scale = 1.0
            values["prompt_embeds"] = values["prompt_embeds"].chunk(2)[1]
        return values

    pipe = stable_diffusion()
    given = {"callback_on_step_end": unguided, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with propagate(pipe, 5, parallel, alpha=0) as counts:
        found = draw(pipe, **given)
    assert found.isfinite().all()
    assert counts.encoder_calls == 3


def test_an_exchanged_forward_is_what_runs():
    """As offloading does: it puts another `forward` in its place, and takes it away again."""
    pipe, moved = stable_diffusion(), []
    plain = pipe.unet.forward
    with propagate(pipe, 5, alpha=0) as counts:
        pipe.unet.forward = lambda *args, **kwargs: (moved.append(1), plain(*args, **kwargs))[1]
        draw(pipe)
        del pipe.unet.forward
        draw(pipe)
    assert len(moved) == 2
    assert counts.encoder_calls == 4


@pytest.mark.parametrize("mode", ["decoder", "both", "drop"])
def test_other_modes_run_what_they_say(mode):
    pipe = stable_diffusion()
    plain = draw(pipe)
    with propagate(pipe, "all", False, 0, mode):
        assert draw(pipe).equal(plain)
    with propagate(pipe, 5, False, 0, mode) as counts:
        found = draw(pipe)
    assert not found.equal(plain)
    assert (counts.encoder_calls, counts.decoder_calls) == ((10, 2) if mode == "decoder" else (2, 2))


def test_between_key_steps_decoder_propagation_reads_the_latent_and_the_others_do_not():
    pipe, text = stable_diffusion(), noise(2, 5, 8)
    for mode, reads in {"decoder": True, "both": False, "encoder": False}.items():
        said = []
        for seed in (1, 2):
            pipe.scheduler.set_timesteps(2)
            with propagate(pipe, 2, False, 0, mode), torch.no_grad():
                first, second = pipe.scheduler.timesteps
                pipe.unet(noise(2, 4, 8, 8), first, encoder_hidden_states=text)
                said.append(pipe.unet(noise(2, 4, 8, 8, seed=seed), second, encoder_hidden_states=text).sample)
        assert said[0].equal(said[1]) != reads


def test_injection_adds_noise_in_the_later_half_alone():
    """With a network that says zero and a scheduler that changes nothing, what is left is alpha z_T for each step."""

    class Still(diffusers.DDIMScheduler):
        def step(self, model_output, timestep, sample, return_dict=True, **_):
            return (sample,)

    pipe = stable_diffusion(kind=Still)
    start = noise(2, 4, 8, 8)
    for parallel, late in ((True, 5), (False, 5)):
        with propagate(pipe, "all", parallel, alpha=0.1):
            found = draw(pipe)
        close(found, start * (1 + 0.1 * late))
    assert "step" not in pipe.scheduler.__dict__


def test_what_cannot_be_propagated_is_a_users_error():
    pipe = stable_diffusion()
    with pytest.raises(UserError, match="parallel=False"), propagate(pipe, mode="decoder"):
        pass
    with pytest.raises(UserError, match="no U-Net"), propagate(diffusers.DiffusionPipeline()):
        pass
    with pytest.raises(UserError, match="has not"), propagate(dit()[0], parallel=False, mode="both"):
        pass
    with propagate(pipe), pytest.raises(UserError, match="already"), propagate(pipe):
        pass
    compiled = stable_diffusion()
    compiled.unet.compile()
    with pytest.raises(UserError, match="compiled"), propagate(compiled):
        pass
    with pytest.raises(UserError, match="nor a DiT"):
        encoder_of(nn.Linear(1, 1))
    with propagate(pipe), pytest.raises(UserError, match="exchanged"):
        pipe.scheduler = scheduler()
        draw(pipe)
    with propagate(pipe), pytest.raises(UserError, match="50 steps of sampling, not for 10"):
        draw(pipe)
    pipe.unet = torch.nn.Identity()
    with pytest.raises(UserError, match="neither"), propagate(pipe):
        pass


def test_an_error_inside_gives_the_pipeline_back():
    pipe = stable_diffusion()
    before = everything(pipe.unet)
    with pytest.raises(ZeroDivisionError), propagate(pipe, 2):
        raise ZeroDivisionError
    assert everything(pipe.unet) == before
    assert "step" not in pipe.scheduler.__dict__


def test_ddim_at_all_times_is_ddim_and_at_few_is_another():
    config = diffusers.DDIMScheduler(**STABLE).config
    found = {}
    for name, only in {"plain": None, "all": "all", "few": "paper"}.items():
        pipe = stable_diffusion(unet())
        pipe.scheduler = build_solver(config, "ddim", 50, only)
        found[name] = draw(pipe, steps=50)
    close(found["all"], found["plain"], 1e-3)
    assert len(pipe.scheduler.timesteps) == 9
    assert pipe.scheduler.timesteps[:4].tolist() == [981, 961, 941, 921]
    assert (found["few"] - found["plain"]).abs().max() > 0.01
