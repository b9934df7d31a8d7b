"""MCM's parts against the golden vectors; shapes and hyperparameters come from the file."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from common.training.ema import Ema
from common.training.weights import load_weights
from projects.mcm.consistency import (
    Consistency,
    boundary_scalings,
    guidance_embedding,
    pseudo_huber,
)
from projects.mcm.discriminator import FrameDiscriminator, discriminator_losses, generator_loss
from projects.mcm.motion import SpatialHead, motion_head

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("GOLDEN_ROOT", ROOT.parent / "shared/golden")) / "mcm.safetensors"


@pytest.fixture(scope="module")
def golden():
    """(tensors by name, metadata)."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}; set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def close(found, expected, atol=1e-5, rtol=1e-4):
    torch.testing.assert_close(found, expected, atol=atol, rtol=rtol)


def inputs(golden, case):
    return {n.rpartition("in.")[2]: x for n, x in golden[0].items() if n.startswith(f"{case}/in.")}


def outputs(golden, case):
    return {n.rpartition("out.")[2]: x for n, x in golden[0].items() if n.startswith(f"{case}/out.")}


def state(golden, case):
    start = f"{case}/state."
    return {n.removeprefix(start): x for n, x in golden[0].items() if n.startswith(start)}


def head(golden):
    facts = {k.removeprefix("spatial_head/"): v for k, v in golden[1].items() if k.startswith("spatial_head/")}
    weights = state(golden, "spatial_head")
    found = SpatialHead(
        weights["conv_out.weight"].shape[0],
        hidden=int(facts["hidden_dim"]),
        layers=int(facts["num_layers"]),
        kernel=int(facts["kernel_size"]),
        norm_num_groups=int(facts["groups"]),
        norm_eps=float(facts["gn_eps"]),
    )
    return load_weights(found, weights)


def consistency(golden, prediction="epsilon"):
    return Consistency(
        golden[0]["ddim_solver/in.alphas_cumprod"],
        knots=int(golden[1]["cd_step/num_ddim_timesteps"]),
        timestep_scaling=float(golden[1]["cd_step/timestep_scaling"]),
        prediction=prediction,
    )


def test_golden_boundary_scalings(golden):
    given, expected = inputs(golden, "boundary_scalings"), outputs(golden, "boundary_scalings")
    skip, out = boundary_scalings(given["t"], float(golden[1]["boundary_scalings/timestep_scaling"]))
    close(skip, expected["c_skip"])
    close(out, expected["c_out"])


def test_golden_ddim_solver(golden):
    given, expected = inputs(golden, "ddim_solver"), outputs(golden, "ddim_solver")
    solver = Consistency(given["alphas_cumprod"], int(golden[1]["ddim_solver/num_ddim_timesteps"]))
    assert torch.equal(solver.timesteps, expected["timesteps"].long())
    close(solver.alpha_knots, expected["alpha_cumprod"].float())
    close(solver.alpha_previous, expected["alpha_cumprod_prev"].float())
    close(solver.ddim(given["pred_x0"], given["pred_noise"], given["index"].long()), expected["x_prev"].float())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_golden_predictions(golden, prediction):
    case = f"predicted_{prediction}"
    given, expected = inputs(golden, case), outputs(golden, case)
    solver, t = consistency(golden, prediction), given["t"].long()
    close(solver.x0(given["model_output"], given["sample"], t), expected["x0"])
    close(solver.noise(given["model_output"], given["sample"], t), expected["eps"])


@pytest.mark.parametrize("kind", ["raw", "diff", "freql", "freqh", "gcor", "sgcor"])
def test_golden_motion(golden, kind):
    case = f"motion_{kind}"
    close(motion_head(kind)(inputs(golden, case)["latent"]), outputs(golden, case)["motion"])


def test_golden_spatial_head(golden):
    given, expected = inputs(golden, "spatial_head_init"), outputs(golden, "spatial_head_init")
    close(SpatialHead(given["x"].shape[1])(given["x"]), expected["y"])
    close(head(golden)(inputs(golden, "spatial_head")["x"]), outputs(golden, "spatial_head")["y"])


def test_golden_huber(golden):
    given = inputs(golden, "huber")
    loss = pseudo_huber(given["pred"], given["target"], float(golden[1]["huber/c"]))
    close(loss, outputs(golden, "huber")["loss"])


@pytest.mark.parametrize("kind", ["wgan", "hinge", "bce"])
def test_golden_adversarial_losses(golden, kind):
    given, expected = inputs(golden, "adv_losses"), outputs(golden, "adv_losses")
    real, fake = discriminator_losses(given["logits_real"], given["logits_fake"], kind)
    close(real, expected[f"disc_{kind}_real"])
    close(fake, expected[f"disc_{kind}_fake"])
    close(generator_loss(given["logits_fake"], kind), expected[f"gen_{kind}"])


def test_golden_discriminator(golden):
    given, expected = inputs(golden, "discriminator"), outputs(golden, "discriminator")
    features = [given[f"feat{k}"] for k in range(sum(name.startswith("feat") for name in given))]
    weights, renamed = state(golden, "discriminator"), {}
    for name, value in weights.items():  # the stored names are those of torch's older spectral norm
        for old, new in (("weight_orig", "original"), ("weight_u", "0._u"), ("weight_v", "0._v")):
            name = name.replace(old, f"parametrizations.weight.{new}")
        renamed[name] = value
    blocks = list(dict.fromkeys(int(name.split(".")[1]) for name in weights))
    judge = FrameDiscriminator(blocks, features[0].shape[2], given["text"].shape[1]).eval()
    load_weights(judge, renamed)
    assert judge.heads[str(blocks[0])].cmapper.out_features == int(golden[1]["discriminator/cmap_dim"])
    close(judge(features, given["text"]), expected["logits"])
    for k, (module, x) in enumerate(zip(judge.heads.values(), features, strict=True)):
        close(module(x, given["text"]), expected[f"head{k}"])


def test_golden_cd_step(golden):
    given, expected = inputs(golden, "cd_step"), outputs(golden, "cd_step")
    step = consistency(golden).step(
        given["latent"],
        given["noise"],
        given["index"].long(),
        given["w"],
        student=lambda z, t: given["eps_student"],
        teacher=lambda z, t: (given["eps_teacher_cond"], given["eps_teacher_uncond"]),
        target=lambda z, t: given["eps_target"],
    )
    assert torch.equal(step.start, expected["t_start"].long()) and torch.equal(step.next, expected["t_next"].long())
    names = {"noisy": step.noisy, "model_pred": step.predicted, "x_prev": step.previous, "target": step.target}
    for name, found in names.items():
        close(found, expected[name])
    close(pseudo_huber(step.predicted, step.target), expected["loss_raw"])
    student, target = head(golden), head(golden)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(0.9)  # as the case's note says
    close(pseudo_huber(student(step.predicted), target(step.target)), expected["loss_head"])


def test_golden_ema(golden):
    given, expected = inputs(golden, "ema"), outputs(golden, "ema")
    target = Ema(torch.nn.ParameterList([given["t0"], given["t1"]]), float(golden[1]["ema/rate"]))
    target.update(torch.nn.ParameterList([given["s0"], given["s1"]]))
    close(target.model[0].data, expected["t0"])
    close(target.model[1].data, expected["t1"])


def test_golden_guidance_embedding(golden):
    expected = outputs(golden, "guidance_embedding")["emb"]
    close(guidance_embedding(inputs(golden, "guidance_embedding")["w"], expected.shape[1]), expected, atol=1e-4)
