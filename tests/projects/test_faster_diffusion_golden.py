"""Faster Diffusion against the golden vectors; shapes and hyperparameters come from the file."""

import re
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from einops import rearrange
from safetensors import safe_open

from projects.faster_diffusion.propagate import propagate
from tests.golden import golden_file
from tests.projects.faster_diffusion_small import groups, quiet

NAMES = {"50ls": "paper"}  # the official code's name of the paper's key steps


@pytest.fixture(scope="module")
def golden():
    """(tensors by name, metadata)."""
    file = golden_file("faster_diffusion")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def case(golden, name):
    return {n.removeprefix(f"{name}/"): x for n, x in golden[0].items() if n.startswith(f"{name}/")}


def blocks(text, name):
    return tuple(re.search(rf"{name}=\(([^)]*)\)", text)[1].split(","))


def build(golden):
    """The network that the file's own words describe."""
    text = golden[1]["unet/config"]
    numbers = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
    channels = int(re.search(r"in/out (\d+)", text)[1])
    sizes = tuple(int(size) for size in blocks(text, "block_out_channels"))
    found = UNet2DConditionModel(
        in_channels=channels,
        out_channels=channels,
        down_block_types=blocks(text, "down"),
        up_block_types=blocks(text, "up"),
        mid_block_type=re.search(r"mid=(\w+)", text)[1],
        block_out_channels=sizes,
        **numbers,
    )
    state = {n.removeprefix("state."): x for n, x in case(golden, "unet").items() if n.startswith("state.")}
    found.load_state_dict(state)
    return found.eval()


def test_golden_groups(golden):
    names = sorted({name.split("/")[0] for name in golden[0] if name.startswith("groups_")})
    assert names
    for name in names:
        _, keys, total = name.split("_")
        found, expected = groups(NAMES.get(keys) or int(keys), int(total)), case(golden, name)
        assert [start for start, _ in found] == expected["out.starts"].tolist()
        assert [length for _, length in found] == expected["out.lengths"].tolist()


@torch.no_grad()
def test_golden_unet(golden):
    given = case(golden, "unet")
    found = build(golden)(given["in.sample"], given["in.t"], encoder_hidden_states=given["in.text"]).sample
    torch.testing.assert_close(found, given["out.sample"], atol=5e-5, rtol=1e-4)


@torch.no_grad()
def test_golden_group_forward(golden):
    """A key step's call and those that follow: one batch, in the file first everything without captions, by steps."""
    given, unet, middle = case(golden, "group_forward"), build(golden), []
    unet.mid_block.register_forward_hook(lambda module, args, said: middle.append(said))
    times = given["in.timesteps"]
    scheduler = SimpleNamespace(timesteps=times, order=1)
    with propagate(SimpleNamespace(unet=unet, scheduler=scheduler), len(times), alpha=0) as counts:
        said = [unet(given["in.sample"], t, encoder_hidden_states=given["in.text"]).sample for t in times]
    found = rearrange(torch.stack(said), "step (half b) ... -> (half step b) ...", half=2)
    torch.testing.assert_close(found, given["out.noise"], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(middle[0], given["out.mid_feature"], atol=5e-5, rtol=1e-4)
    assert (counts.encoder_calls, counts.decoder_calls, len(middle)) == (1, 1, 1)


def schedule(golden):
    text = golden[1]["sampling/scheduler"]
    kind, low, high = re.search(r"(\w+) ([\d.]+)-([\d.]+),", text).groups()
    flags = {name: value == "True" for name, value in re.findall(r"(set_alpha_to_one|clip_sample) (True|False)", text)}
    return DDIMScheduler(
        int(re.search(r"(\d+) train steps", text)[1]),
        beta_start=float(low),
        beta_end=float(high),
        beta_schedule=kind,
        steps_offset=int(re.search(r"steps_offset (\d+)", text)[1]),
        timestep_spacing=re.search(r"(\w+) spacing", text)[1],
        **flags,
    )


def test_golden_sampling(golden):
    given, words = case(golden, "sampling"), golden[1]
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = quiet(
        StableDiffusionPipeline(**parts, unet=build(golden), scheduler=schedule(golden), requires_safety_checker=False)
    )

    def draw():
        return pipe(
            prompt_embeds=given["in.text_cond"],
            negative_prompt_embeds=given["in.text_uncond"],
            latents=given["in.z_T"],
            num_inference_steps=int(words["sampling/num_steps"]),
            guidance_scale=float(words["sampling/guidance"]),
            output_type="latent",
        ).images

    torch.testing.assert_close(draw(), given["out.full"], atol=1e-4, rtol=1e-4)
    assert pipe.scheduler.timesteps.tolist() == given["out.timesteps"].tolist()
    keys = int(words["sampling/key_every"])
    outputs = [name for name in given if "_inj" in name]
    assert outputs
    for name in outputs:
        how, alpha = name.removeprefix("out.").split("_inj")
        with propagate(pipe, keys, parallel=how == "parallel", alpha=float(alpha)):
            torch.testing.assert_close(draw(), given[name], atol=1e-4, rtol=1e-4)
