"""Faster Diffusion's stages: measures with floor and ceiling, the same noise for all arms, changes and costs."""

import json

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file
from torchmetrics.image.fid import FrechetInceptionDistance

from common.cli import main
from common.data.images import Pictures
from common.data.words import word_tokenizer
from common.data.worlds.glyph_scenes import GlyphFeatures, GlyphScenes, objects_right
from common.foundations.text_to_image import build_text_encoder, build_unet
from common.models.text_to_image import TextToImage
from projects.faster_diffusion.changes import blocks, changes
from projects.faster_diffusion.cost import build, macs
from projects.faster_diffusion.harness.pictures import change_chart, component_picture
from projects.faster_diffusion.pipelines import draw, pipeline_of, starting_noise
from projects.faster_diffusion.sample import Captions, Sampling, links
from projects.faster_diffusion.solvers import build_solver

SCENES = GlyphScenes("test", 120, places_named=False)
CONFIGS = "projects/faster_diffusion/configs/mini"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny text-to-image model of pixels, as the foundation leaves it."""
    torch.manual_seed(0)
    captions = [SCENES[k].caption for k in range(120)]
    tokenizer = word_tokenizer([*captions, "red green blue yellow white block bar post slash"], length=8, ends=True)
    scheduler = DDPMScheduler(
        1000, beta_schedule="scaled_linear", clip_sample=False, prediction_type="v_prediction", steps_offset=1
    )
    model = TextToImage(tokenizer, build_text_encoder(tokenizer, 16, 1), build_unet(8, (8, 8), 16), scheduler).eval()
    place = tmp_path_factory.mktemp("model")
    model.save_pretrained(place)
    return place, model


def pictures(count=120):
    samples = [Pictures(SCENES, 8)[k] for k in range(count)]
    return torch.stack([sample["image"] for sample in samples]), [sample["caption"] for sample in samples]


def test_measures_of_the_world_have_floor_and_ceiling():
    """Real pictures, other captions' pictures, their mean, noise, and real ones with another contrast."""
    real, captions = pictures()
    shown = {
        "real": real,
        "shuffled": real.roll(7, 0),
        "mean": real.mean(0, keepdim=True).expand_as(real),
        "random": torch.rand(real.shape, generator=torch.Generator().manual_seed(0)),
        "pale": 0.1 + 0.8 * real,
    }
    right = {name: float(objects_right(images, captions).mean()) for name, images in shown.items()}
    assert right["real"] == 1.0
    assert right["pale"] > 0.95
    assert max(right["shuffled"], right["mean"], right["random"]) < 0.3
    distance = {}
    for name, images in shown.items():
        metric = FrechetInceptionDistance(GlyphFeatures(), normalize=True)
        metric.update(real, real=True)
        metric.update(images, real=False)
        distance[name] = float(metric.compute())
    assert abs(distance["real"]) < 1e-4
    assert distance["real"] < distance["pale"] < distance["mean"]
    assert min(distance["mean"], distance["random"]) > 0.1
    assert abs(distance["shuffled"]) < 1e-4  # of the set alone: which picture is whose, `objects` and `paired` say


def test_noise_is_a_pictures_own_whatever_the_batch(folder):
    model = folder[1]
    together = starting_noise(model, 8, [0, 1, 2], seed=3)
    assert together[2:].equal(starting_noise(model, 8, [2], seed=3))
    assert not together.equal(starting_noise(model, 8, [0, 1, 2], seed=4))
    assert not together.equal(starting_noise(model, 8, [0, 1, 2], seed=3, split=1))


def test_a_pipeline_draws_as_the_model_itself_does(folder):
    """diffusers' pipeline around a model of pixels, against our own sampler with the same solver."""
    model = folder[1]
    _, captions = pictures(3)
    expected = model.sample(model.encode_text(captions), 5, 2.0, "ddim", generator=torch.Generator().manual_seed(0))
    noise = torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    found = draw(pipeline_of(model, build_solver(model.scheduler.config, "ddim", 5)), model, captions, noise, 5, 2.0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpm", "dpm++"])
def test_solvers_have_the_models_schedule_and_stable_diffusions_first_step(solver):
    found = build_solver(DDPMScheduler(1000, beta_schedule="scaled_linear").config, solver, 50)
    assert (found.config.beta_schedule, found.config.steps_offset) == ("scaled_linear", 1)
    if solver == "ddim":
        listed = build_solver(DDPMScheduler(1000).config, solver, 50, "paper")
        assert listed.listed[:5] == [981, 961, 941, 921, 881]


def test_changes_are_mean_squares_and_relative_ones_do_not_see_scale():
    features = [torch.ones(2, 3, 4, 4) * value for value in (1.0, 3.0, 2.0)]
    raw, relative = changes(features)
    assert raw.tolist() == [4.0, 1.0]
    torch.testing.assert_close(relative, torch.tensor([4.0, 1 / 9]))
    louder = changes([10 * x for x in features])
    torch.testing.assert_close(louder[0], 100 * raw)
    torch.testing.assert_close(louder[1], relative)


def test_blocks_are_named_in_their_order(folder):
    assert list(blocks(folder[1].unet)) == ["E1", "E2", "D1", "D2"]


def test_pictures_of_changes_and_of_features():
    rows = {name: torch.rand(9).numpy() for name in ("E1", "D1")}
    assert change_chart(rows, rows).light.ndim == 3
    shown = component_picture({"E1": torch.randn(12, 5, 4, 4), "D1": torch.randn(12, 4, 8, 8)})
    assert shown.shape[2] == 3 and shown.dtype.name == "uint8"


def test_stable_diffusions_network_is_counted_whole():
    """By hand: a convolution of k x k costs k^2 d_in d_out at every place; the papers' sizes in parameters."""
    network = build("sd15")
    assert sum(p.numel() for p in network.parameters()) == 859_520_964
    full, between = macs(network)
    assert full == pytest.approx(401.6e9, rel=1e-3)
    assert between / full == pytest.approx(0.6745, abs=1e-3)
    assert 50 * full - 41 * (full - between) == pytest.approx(50 * full * 0.733, rel=1e-3)


def test_stages_run_and_compare_pictures_by_pair(folder, tmp_path):
    """The full sampler, then propagation with all steps key: the same pictures to the last bit."""
    config = ["--config", f"{CONFIGS}/drawing.yaml", "--config", f"{CONFIGS}/sample.yaml", "--seed_everything", "7"]
    small = ["--model.text_to_image", str(folder[0]), "--data.test.init_args.size", "6", "--model.steps", "4"]
    full = tmp_path / "full"
    main(Sampling, Captions, ["test", *config, *small, "--run_dir", str(full)], links)
    assert load_file(full / "drawn.safetensors")["pictures"].shape == (6, 3, 8, 8)
    same = ["--model.reference", str(full / "drawn.safetensors"), "--model.reuse.keys", "all"]
    main(Sampling, Captions, ["test", *config, *small, *same, "--run_dir", str(tmp_path / "all")], links)
    found = {name: json.loads((tmp_path / name / "done.json").read_text())["metrics"] for name in ("full", "all")}
    assert found["all"]["paired"] == 0
    assert found["all"]["objects"] == found["full"]["objects"]
    assert (found["all"]["encoder_runs"], found["full"]["encoder_runs"]) == (4, 4)
