"""LoRA distillation against the golden vectors; shapes and hyperparameters come from the file."""

import ast
import os
import re
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from safetensors import safe_open

from common.models.lora import Lora, merged, trained_part
from common.models.text_to_image import TextToImage
from common.training.weights import load_weights
from projects.lora_distill.model import Pair, distillation_loss

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("GOLDEN_ROOT", ROOT.parent / "shared/golden")) / "lora_distill.safetensors"
SHORT = {"in/out": ("in_channels", "out_channels"), "down": ("down_block_types",), "up": ("up_block_types",)}


@pytest.fixture(scope="module")
def golden():
    """(tensors by name, metadata)."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}; set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def part(golden, start):
    return {name.removeprefix(start): value for name, value in golden[0].items() if name.startswith(start)}


def unet(golden):
    """The network that the metadata describe: "Class key=value ..., down=(A,B), ..."."""
    text = golden[1]["unet/config"].partition(" ")[2]
    settings = {}
    for key, value in re.findall(r"([\w/]+)[= ](\([^)]*\)|\d+)", text):
        names = re.sub(r"([A-Za-z]\w+)", r"'\1'", value)
        settings |= dict.fromkeys(SHORT.get(key, (key,)), ast.literal_eval(names))
    net = UNet2DConditionModel(**settings)
    load_weights(net, part(golden, "unet/state."))
    return net.eval()


def renamed(name):
    """The old processors' name of an update -> peft's."""
    layer, end = re.fullmatch(r"(.+)\.processor\.to_\w+_lora\.(down|up)\.weight", name).groups()
    which = re.search(r"to_(\w+)_lora", name)[1]
    module = "to_out.0" if which == "out" else f"to_{which}"
    return f"{layer}.{module}.lora_{'A' if end == 'down' else 'B'}.default.weight"


@pytest.fixture
def pair(golden):
    found = Pair(unet(golden), Lora(int(golden[1]["lora/rank"]), gaussian=True))
    updates = trained_part(found.student)
    load_weights(updates, {renamed(name): value for name, value in part(golden, "lora/state.").items()})
    return found


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


def scheduler(golden):
    """The model's own, from which samplers take their settings."""
    said = golden[1]["sampling/scheduler"]
    low, high = re.search(r"scaled_linear ([\d.]+)-([\d.]+)", said).groups()
    noise = {"beta_start": float(low), "beta_end": float(high), "beta_schedule": "scaled_linear", "clip_sample": False}
    offset = int(re.search(r"steps_offset (\d+)", said)[1])
    found = DDIMScheduler(1000, **noise, steps_offset=offset, set_alpha_to_one="set_alpha_to_one True" in said)
    return DDPMScheduler.from_config(found.config)


def test_golden_number_of_updates(golden, pair):
    trained = [parameter for parameter in pair.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == int(golden[1]["lora_params"])


def test_golden_step(golden, pair):
    given, expected = part(golden, "distil_step/in."), part(golden, "distil_step/out.")
    noisy = scheduler(golden).add_noise(given["x0"], given["noise"], given["t"])
    close(noisy, expected["noisy"])
    context, empty = given["text_cond"], given["text_uncond"]
    assert torch.equal(empty, empty[:1].expand_as(empty))  # the same for all: `Pair` is given one
    conditional, unconditional = pair.predictions(noisy, given["t"], context, empty[:1])
    close(conditional, expected["teacher_cond"])
    close(unconditional, expected["teacher_uncond"])
    target = pair.guided(noisy, given["t"], context, empty[:1], float(golden[1]["guidance"]))
    close(target, expected["target"], 1e-4)
    student = pair.student(noisy, given["t"], context).sample
    close(student, expected["student"])
    loss = distillation_loss(student, target)
    close(loss, expected["loss"])
    loss.backward()
    order = [renamed(name) for name in golden[1]["distil_step/lora_grad_order"].split(",")]
    gradients = {name: p.grad for name, p in pair.student.named_parameters() if p.grad is not None}
    assert sorted(gradients) == sorted(order)
    close(torch.stack([gradients[name].norm() for name in order]), expected["lora_grad_norms"])
    first = golden[1]["distil_step/first_processor"]
    close(gradients[renamed(f"{first}.to_q_lora.up.weight")], expected["grad.to_q_up_first"])
    close(gradients[renamed(f"{first}.to_v_lora.down.weight")], expected["grad.to_v_down_first"])


@pytest.mark.parametrize("which", ["teacher_cfg", "student_single_pass"])
def test_golden_pictures(golden, pair, which, monkeypatch):
    given, expected = part(golden, "sampling/in."), part(golden, "sampling/out.")
    plain = unet(golden) if which == "teacher_cfg" else merged(pair.student)
    steps = int(golden[1]["sampling/steps"])
    t2i = TextToImage(None, None, plain, scheduler(golden))
    monkeypatch.setattr(t2i, "encode_text", lambda texts: given["text_uncond"][:1])
    monkeypatch.setattr(t2i, "decode", lambda latents: latents)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: given["z_T"])
    guidance = float(golden[1]["guidance"]) if which == "teacher_cfg" else 1.0
    found = t2i.sample(given["text_cond"], steps, guidance, "ddim")
    close(found, expected[which], 1e-4)
    solver = DDIMScheduler.from_config(t2i.scheduler.config)
    solver.set_timesteps(steps)
    assert torch.equal(solver.timesteps, expected["timesteps"])
