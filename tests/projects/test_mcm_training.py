"""MCM's student, its training step and stages, on a tiny untrained teacher."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNetMotionModel
from PIL import Image
from safetensors.torch import load_file, save_file, save_model
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from common.cli import main, one_seed
from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.data.worlds.moving_glyphs import MovingGlyphs
from common.errors import UserError
from common.evaluators.clip_score import CLIP_MEAN, CLIP_STD
from common.evaluators.frechet import Inception
from common.models.lora import Lora, merged, trained_part
from common.rehearsal.metric_models import write_inception
from common.rehearsal.vision_models import clip
from common.training.weights import load_state
from projects.mcm import students
from projects.mcm.adapters import load_student
from projects.mcm.data import VideoData
from projects.mcm.distill import Adversary, MotionConsistency
from projects.mcm.evaluate import Evaluation
from projects.mcm.features import DinoClassifier, FrameEncoder, FrameFeatures, SentenceEncoder
from projects.mcm.measures import Measures, VideoMeasures
from projects.mcm.model import VideoModel, build_student, denoise, load_video_model
from projects.mcm.sampling import sample_student, sample_teacher
from projects.mcm.teacher import TeacherTraining
from projects.mcm.tools import sample

VISION = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 2}
CAPTIONS = ["block moving right", "cross moving down"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher in `model/`, a frame encoder in `dino.safetensors`."""
    folder = tmp_path_factory.mktemp("mcm")
    torch.manual_seed(0)
    TeacherTraining(channels=8, width=16).net.save_pretrained(folder / "model")
    save_model(DinoClassifier(VISION, 3), str(folder / "dino.safetensors"))
    return folder


@pytest.fixture
def teacher(folder):
    return load_video_model(VideoModel(str(folder / "model")))


def encoder(folder):
    return FrameEncoder(vision=VISION, weights=str(folder / "dino.safetensors"), size=8, blocks=(0, 1))


def module(folder, **settings):
    adversary = Adversary(encoder(folder), SentenceEncoder(words=("block", "cross", "corner")))
    given = {"lora": Lora(4, 4.0), "adversary": adversary, "knots": 20, **settings}
    found = MotionConsistency(VideoModel(str(folder / "model")), **given)
    found.log = found.log_dict = lambda *args, **kwargs: None
    return found


def batch(count=4):
    return {
        "video": torch.rand(count, 3, 6, 8, 8),
        "images": torch.rand(count, 2, 3, 8, 8),
        "caption": CAPTIONS * (count // 2),
        "image_captions": ["block", "cross"] * count,
    }


def has_gradient(parameters):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]


def test_the_student_starts_as_the_teacher_and_adds_low_rank_updates_outside_temporal_convolutions(teacher):
    student = build_student(teacher.unet, Lora(4, 4.0))
    z, t, context = torch.randn(2, 4, 6, 4, 4), torch.tensor([3, 900]), teacher.encode_text(CAPTIONS)
    torch.testing.assert_close(denoise(student, z, t, context), denoise(teacher.unet, z, t, context))
    names = [name for name, p in student.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name for name in names)
    for part in ("to_q", "ff.net.0.proj", "resnets.0.conv1", "time_emb_proj", "proj_in"):
        assert any(part in name for name in names), part
    assert not any("temp_convs" in name for name in names)


def test_merged_updates_compute_what_they_did_apart(teacher):
    student = build_student(teacher.unet, Lora(4, 8.0))
    with torch.no_grad():
        for parameter in trained_part(student).parameters():
            parameter.normal_(0, 0.1)
    z, t, context = torch.randn(2, 4, 6, 4, 4), torch.tensor([3, 900]), teacher.encode_text(CAPTIONS)
    apart = denoise(student, z, t, context)
    assert not torch.allclose(apart, denoise(teacher.unet, z, t, context), atol=1e-3)
    torch.testing.assert_close(denoise(merged(student), z, t, context), apart, atol=1e-4, rtol=1e-4)


def test_a_student_of_animatediff_updates_its_motion_modules_too():
    unet = UNetMotionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockMotion",),
        up_block_types=("CrossAttnUpBlockMotion",),
        block_out_channels=(16,),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=8,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        use_motion_mid_block=False,
    ).eval()
    student = build_student(unet, Lora(2, 2.0))
    assert any("motion_modules" in name for name, p in student.named_parameters() if p.requires_grad)
    z, t, context = torch.randn(2, 4, 3, 4, 4), torch.tensor([3, 900]), torch.randn(2, 5, 8)
    torch.testing.assert_close(denoise(student, z, t, context), denoise(unet, z, t, context))
    with torch.no_grad():
        for parameter in trained_part(student).parameters():
            parameter.normal_(0, 0.1)
    apart = denoise(student, z, t, context)
    torch.testing.assert_close(denoise(merged(student), z, t, context), apart, atol=1e-4, rtol=1e-4)


def test_a_fully_trained_student_is_told_the_guidance_and_ignores_it_at_first(folder):
    found = module(folder, lora=None)
    assert all(p.requires_grad for p in found.student.parameters()) and found.student.config.time_cond_proj_dim == 256
    z, t = torch.randn(2, 4, 6, 4, 4), torch.tensor([3, 900])
    context, told = found.teacher.encode_text(CAPTIONS), torch.randn(2, 256)
    torch.testing.assert_close(denoise(found.student, z, t, context, told), denoise(found.teacher.unet, z, t, context))
    type(found).global_step = 0
    found.training_step(batch(), 0).backward()
    assert all(has_gradient([found.student.time_embedding.cond_proj.weight]))
    assert not any(has_gradient(found.target.parameters()))


def test_gradients_of_a_step_reach_what_is_trained_and_nothing_else(folder):
    found = module(folder)
    found.training_step(batch(), 0).backward()
    trained = [p for name, p in found.student.named_parameters() if "lora_B" in name]
    assert all(has_gradient(trained)) and any(has_gradient(found.head.parameters()))
    assert all(has_gradient(found.discriminator.parameters()))
    frozen = [found.teacher, found.features, found.target_head, found.sentences]
    assert not any(p.grad is not None for part in frozen for p in part.parameters())
    assert all(p.grad is None for p in found.student.parameters() if not p.requires_grad)


def test_the_generators_term_trains_the_student_through_decoder_and_encoder_but_not_the_discriminator(folder):
    found, z = module(folder), torch.randn(4, 4, 6, 4, 4, requires_grad=True)
    terms = found.play(found.adversary, z, batch())
    terms["generator"].backward(retain_graph=True)
    assert z.grad.abs().sum() > 0 and not any(has_gradient(found.discriminator.parameters()))
    assert (z.grad.flatten(3).abs().sum((0, 1, 3)) > 0).sum() == 2  # K frames, the same in all videos
    z.grad = None
    (terms["real"] + terms["fake"] + terms["penalty"]).backward()
    assert z.grad is None and all(has_gradient(found.discriminator.parameters()))


def test_simulated_videos_come_from_the_student_as_it_is_without_gradient(folder):
    found = module(folder, simulated=1.0)
    z, context = torch.randn(2, 4, 6, 4, 4), found.teacher.encode_text(CAPTIONS)
    torch.manual_seed(1)
    made = found.simulate(found.network(found.student, context, None), z)
    torch.manual_seed(1)
    noise, t = torch.randn_like(z), torch.tensor([999, 999])
    output = denoise(found.student, noise, t, context)
    torch.testing.assert_close(made, found.consistency.x0(output, noise, t))
    assert not made.requires_grad


@pytest.mark.parametrize("lora", [Lora(4, 4.0), None])
def test_simulated_videos_are_the_target_networks(folder, lora):
    found, used = module(folder, lora=lora, simulated=1.0), []
    found.simulate = lambda network, latents: used.append(network.args[0]) or latents
    found.training_step(batch(), 0)
    assert used == [found.student if lora else found.target.model]


def test_one_step_of_sampling_is_the_consistency_function_at_the_last_knot(teacher, folder):
    found = module(folder)
    noise, t = torch.randn(2, 4, 6, 4, 4), torch.tensor([999, 999])
    made = sample_student(teacher, teacher.unet, CAPTIONS, noise, 1, 20, 4.0)
    context = teacher.encode_text(CAPTIONS)
    expected = found.consistency.consistent(found.network(teacher.unet, context, None), noise, t)
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("solver", ["ddim", "dpm"])
def test_the_teacher_samples_with_either_solver(teacher, solver):
    noise = torch.randn(2, 4, 6, 4, 4)
    found = [sample_teacher(teacher, CAPTIONS, noise, 3, w, solver) for w in (0.0, 4.0)]
    assert found[0].shape == noise.shape and torch.isfinite(found[0]).all()
    assert not torch.allclose(*found)


def command(folder, run_dir):
    adversary = {
        "encoder": {"vision": VISION, "weights": str(folder / "dino.safetensors"), "size": 8, "blocks": [0, 1]},
        "sentences": {"words": ["block", "cross", "corner"]},
    }
    world = "common.data.worlds.moving_glyphs"
    split = lambda kind, name, size: {"class_path": f"{world}.{kind}", "init_args": {"split": name, "size": size}}  # noqa: E731
    settings = {
        "--model.teacher": {"source": str(folder / "model")},
        "--model.lora": {"rank": 2, "alpha": 2.0},
        "--model.adversary": adversary,
        "--data.train": split("MovingGlyphs", "train", 16),
        "--data.images": split("StillGlyphs", "train", 8),
    }
    words = [word for key, value in settings.items() for word in (key, json.dumps(value))]
    words += ["--model.knots", "20", "--model.lr", "0.01", "--model.warmup_steps", "0", "--threads", "1"]
    words += [*DATA, "--trainer.max_steps", "2", "--checkpoint_every", "1", "--trainer.accelerator", "cpu"]
    return ["fit", *words, "--run_dir", str(run_dir)]


SIZES = {"frames": 6, "interval": 1, "image_size": 8, "crop": 1.0, "batch_size": 4}
DATA = [word for name, value in SIZES.items() for word in (f"--data.{name}", str(value))]


@pytest.fixture(scope="module")
def distilled(folder):
    """The run folder of two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(MotionConsistency, VideoData, command(folder, folder / "run"), one_seed)
    return folder / "run"


def test_a_stage_leaves_the_updates_alone_and_resumes_with_equal_weights(folder, distilled, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    weights = load_state(distilled / "weights.safetensors")
    assert weights and all("lora_" in name for name in weights)
    state = torch.load(distilled / "checkpoints/step=1.ckpt", weights_only=True)["state_dict"]
    parts = {name.split(".")[0] for name in state}
    assert parts == {"student", "head", "target_head", "discriminator", "penalty_weight"}
    assert all("lora_" in name for name in state if name.startswith("student."))

    again = folder / "again"
    shutil.copytree(distilled, again)
    for file in ("done.json", "weights.safetensors", "checkpoints/step=2.ckpt"):
        (again / file).unlink()
    main(MotionConsistency, VideoData, command(folder, again), one_seed)
    resumed = load_state(again / "weights.safetensors")
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())


def test_clipping_is_for_the_unet_alone(folder):
    found = module(folder)
    found.training_step(batch(), 0).backward()
    own, head = found.student_parameters(), list(found.head.parameters())
    for parameter in [*own, *head]:
        parameter.grad = torch.full_like(parameter, 3.0)
    found.configure_gradient_clipping()
    assert torch.cat([p.grad.flatten() for p in own]).norm() == pytest.approx(10.0, rel=1e-4)
    assert all((p.grad == 3).all() for p in head)


def test_the_penalty_mixes_frames_as_the_encoder_was_given_them(folder):
    found, given = module(folder), []
    original = found.features.tokens
    found.features.tokens = lambda pixels: given.append(pixels.detach()) or original(pixels)
    found.play(found.adversary, torch.randn(4, 4, 6, 4, 4), batch())
    _, real, fake, mixed = given  # first those that the student is judged by
    for m, r, f in zip(mixed, real, fake, strict=True):
        apart = (r - f).abs() > 0.1
        share = ((m - f) / (r - f))[apart]
        assert share.max() - share.min() < 1e-3 and 0 < share.mean() < 1


def test_frame_features_pass_the_encoders_last_norm(folder):
    features, images = FrameFeatures(encoder(folder)), torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        features.dino.layernorm.weight.fill_(2.0)
        features.dino.layernorm.bias.fill_(5.0)
    tokens = features(images)
    last = features.dino(features.prepared(images)).last_hidden_state[:, 1:]
    torch.testing.assert_close(tokens[-1], last)
    for found in tokens:
        torch.testing.assert_close(found.mean(2), torch.full((2, 16), 5.0))


def test_evaluation_measures_motion_and_appearance_apart(folder, distilled, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    judge = {"judge": {"vision": VISION, "weights": str(folder / "dino.safetensors"), "size": 8}}
    world = "common.data.worlds.moving_glyphs"
    sources = [("test", "MovingGlyphs"), ("val", "MovingGlyphs"), ("images", "StillGlyphs")]
    words = ["--model.teacher.source", str(folder / "model"), "--model.measures", json.dumps(judge)]
    for name, kind in sources:
        given = {"class_path": f"{world}.{kind}", "init_args": {"split": "val" if name == "val" else "test", "size": 8}}
        words += [f"--data.{name}", json.dumps(given)]
    words += ["--model.steps", "[1,2]", "--model.knots", "20", "--model.lora", '{"rank": 2, "alpha": 2.0}']
    words += ["--model.weights", str(distilled / "weights.safetensors"), "--threads", "1", *DATA]
    main(Evaluation, VideoData, ["test", *words, "--run_dir", str(tmp_path)], one_seed)
    metrics = json.loads((tmp_path / "done.json").read_text())["metrics"]
    names = ("motion_error", "obeys", "bar", "frame_fd", "video_fd")
    expected = {f"{name}_{steps}" for name in names for steps in (1, 2)}
    assert set(metrics) == expected | {f"{name}_{steps}_val" for name in names[:3] for steps in (1, 2)}
    assert metrics["motion_error_1_val"] != metrics["motion_error_1"] and metrics["frame_fd_2"] > 0
    pictures = json.loads((tmp_path / "pictures/index.json").read_text())
    assert [entry["key"] for entry in pictures] == ["videos", "1 steps", "2 steps"]


def test_measures_of_several_numbers_of_steps_share_their_nets_but_not_what_they_saw(folder):
    first = VideoMeasures(Measures(judge=encoder(folder)))
    second = first.another()
    assert second.frame_fd.inception is first.frame_fd.inception
    images, videos, made = torch.rand(40, 3, 8, 8), torch.rand(40, 3, 4, 8, 8), torch.rand(40, 3, 4, 8, 8)
    second.images(images)
    second.real(videos)
    assert (first.frame_fd.real_features_num_samples, second.frame_fd.real_features_num_samples) == (0, 40)
    for measures in (first, second):
        measures.update(made, CAPTIONS * 20)
    first.aim_as(second)  # what is aimed at may be shown to one of them
    assert first.compute() == second.compute()


class Spy:
    """Keeps what a module is given."""

    def __init__(self, module, name=None):
        self.seen = []
        keep = lambda _, args, kwargs: self.seen.append((kwargs[name] if name else args[0]).detach())  # noqa: E731
        module.register_forward_pre_hook(keep, with_kwargs=True)

    def range(self):
        values = torch.cat([x.flatten() for x in self.seen])
        return float(values.min()), float(values.max())


def normal(value, mean, std):
    return [(value - m) / s for m, s in zip(mean, std, strict=True)]


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """VideoMAE, CLIP and Inception in tiny sizes, as the paper's evaluation names them."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    settings = VideoMAEConfig(**sizes, image_size=16, patch_size=8, num_frames=4)
    VideoMAEForVideoClassification(settings).save_pretrained(folder / "videomae")
    clip(folder / "clip", patch=32)
    write_inception(folder / "inception.pth")
    inception = Inception(str(folder / "inception.pth"), 64)
    return Measures(inception=inception, clip=str(folder / "clip"), video=str(folder / "videomae"))


def test_every_net_that_measures_is_given_the_range_it_was_trained_on(nets, folder):
    measures, judged = VideoMeasures(nets), VideoMeasures(Measures(judge=encoder(folder)))
    black_to_white = torch.linspace(0, 1, 4 * 3 * 6 * 64).reshape(4, 3, 6, 8, 8)
    black_to_white[0], black_to_white[-1] = 0, 1
    imagenet = [*normal(0, IMAGENET_MEAN, IMAGENET_STD), *normal(1, IMAGENET_MEAN, IMAGENET_STD)]
    clips = [*normal(0, CLIP_MEAN, CLIP_STD), *normal(1, CLIP_MEAN, CLIP_STD)]
    spies = {
        "videomae": (Spy(measures.video_fd.inception.net), imagenet),
        "clip": (Spy(measures.clip.clip.net.vision_model, "pixel_values"), clips),
        "inception": (Spy(measures.frame_fd.inception), [0.0, 255.0]),
        "judge": (Spy(judged.frame_fd.inception.dino), imagenet),
    }
    for one in (measures, judged):
        one.real(black_to_white)
        one.images(black_to_white[:, :, 0])
        one.update(black_to_white, CAPTIONS * 2)
    for name, (spy, ends) in spies.items():
        low, high = spy.range()
        assert low == pytest.approx(min(ends), abs=1e-3) and high == pytest.approx(max(ends), abs=1e-3), name
    assert spies["inception"][0].seen[0].dtype == torch.uint8


def test_the_discriminators_encoder_is_given_the_range_it_was_trained_on(folder):
    found = module(folder)
    spy = Spy(found.features.dino)
    found.features(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8))
    ends = [*normal(0, IMAGENET_MEAN, IMAGENET_STD), *normal(1, IMAGENET_MEAN, IMAGENET_STD)]
    assert spy.range() == pytest.approx((min(ends), max(ends)), abs=1e-4)


def test_distances_of_videos_tell_black_from_white_and_another_draw_from_a_spoilt_one(nets, folder):
    for kind in (nets, Measures(judge=encoder(folder))):
        found = {}
        for name in ("same", "noisy", "white", "black"):
            measures = VideoMeasures(kind)
            real, other = world("test", 0, 96), world("test", 1, 96)
            made = {"same": other, "noisy": (other + 0.1 * torch.randn_like(other)).clamp(0, 1)}
            made |= {"white": torch.ones_like(other), "black": torch.zeros_like(other)}
            measures.real(real)
            measures.video_fd.update(made[name], real=False)
            found[name] = float(measures.video_fd.compute())
        assert found["same"] < 0.2 * min(found["white"], found["black"]) and found["same"] < found["noisy"]


def world(split, seed, size):
    source = MovingGlyphs(split, size, seed)
    frames = np.stack([source.clip(k, 4, 1).frames for k in range(size)])
    return torch.from_numpy(frames).float().permute(0, 4, 1, 2, 3) / 255


def adapter(folder, teacher, rank=3, alpha=6.0):
    """A student in peft's own format, as the released ones are; and its U-Net."""
    student = build_student(teacher.unet, Lora(rank, alpha))
    with torch.no_grad():
        for parameter in trained_part(student).parameters():
            parameter.normal_(0, 0.1)
    state = {f"base_model.model.{k.replace('.default', '')}": v for k, v in trained_part(student).state_dict().items()}
    folder.mkdir(parents=True)
    save_file(state, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["to_q"], "lora_dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return student


def test_released_students_load_from_a_folder_and_from_the_hub(teacher, tmp_path, monkeypatch):
    student = adapter(tmp_path / "modelscopet2v-laion", teacher)
    z, t, context = torch.randn(2, 4, 6, 4, 4), torch.tensor([3, 900]), teacher.encode_text(CAPTIONS)
    expected = denoise(student, z, t, context)
    here = lambda source, name: (tmp_path if source == "yhzhai/mcm" else Path(source)) / name  # noqa: E731
    monkeypatch.setattr("projects.mcm.adapters.hub_file", here)
    for weights in (str(tmp_path / "modelscopet2v-laion"), "yhzhai/mcm/modelscopet2v-laion"):
        found = load_student(teacher.unet, weights, None)
        torch.testing.assert_close(denoise(found, z, t, context), expected, atol=1e-4, rtol=1e-4)
        assert not any(p.requires_grad for p in found.parameters())


def test_what_is_no_adapter_of_this_teacher_is_said(teacher, tmp_path):
    adapter(tmp_path / "a", teacher)
    state = load_file(tmp_path / "a/adapter_model.safetensors")
    save_file(
        {k.replace("down_blocks", "other_blocks"): v for k, v in state.items()},
        tmp_path / "a/adapter_model.safetensors",
    )
    with pytest.raises(UserError, match="an adapter of another model"):
        load_student(teacher.unet, str(tmp_path / "a"), None)
    save_file({"lora_unet_down.weight": torch.zeros(1)}, tmp_path / "a/adapter_model.safetensors")
    with pytest.raises(UserError, match="not part of low-rank updates"):
        load_student(teacher.unet, str(tmp_path / "a"), None)
    (tmp_path / "a/adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="does not give the rank"):
        load_student(teacher.unet, str(tmp_path / "a"), None)
    with pytest.raises(UserError, match="nowhere"):
        load_student(teacher.unet, "nowhere.safetensors", Lora(2, 2.0))


def test_teachers_keep_the_spacing_of_their_own_scheduler(teacher):
    used = []
    teacher.unet.register_forward_pre_hook(lambda _, args: used.append(int(args[1][0])))
    for spacing in ("trailing", "leading", "linspace"):
        own = dict(teacher.scheduler.config) | {"timestep_spacing": spacing, "steps_offset": 1}
        teacher.scheduler = DDIMScheduler.from_config(own)
        sample_teacher(teacher, CAPTIONS, torch.randn(2, 4, 6, 4, 4), 2, 1.0)
    assert used == [999, 499, 501, 1, 999, 0]


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_sampling_from_the_command_line(distilled, tmp_path, ending, capsys):
    out = tmp_path / f"clip.{ending}"
    assert sample.main(["block moving right", "--steps", "2", "--run", str(distilled), "--out", str(out)]) == 0
    assert "6 frames in 2 steps" in capsys.readouterr().out
    if ending == "gif":
        with Image.open(out) as image:
            assert image.n_frames == 6 and image.size == (128, 128)
    else:
        reader, frames = cv2.VideoCapture(str(out)), 0
        while reader.read()[0]:
            frames += 1
        assert frames == 6


def test_sampling_is_the_same_for_a_seed_and_another_for_another(distilled):
    student = students.of_run(distilled)
    make = lambda seed: student.video("block moving right", 2, seed)  # noqa: E731
    assert torch.equal(make(0), make(0)) and not torch.allclose(make(0), make(1))
    whole, half = make(0), student.to(torch.device("cpu"), half=True).video("block moving right", 2, 0)
    assert half.dtype == torch.float32 and (half - whole).abs().mean() < 0.02


def test_several_prompts_go_to_a_file_each_and_released_students_sample_too(
    teacher, folder, tmp_path, capsys, monkeypatch
):
    adapter(tmp_path / "modelscopet2v-own", teacher)
    monkeypatch.setitem(students.TEACHERS, "modelscopet2v", (VideoModel(str(folder / "model")), 8))
    words = ["--weights", str(tmp_path / "modelscopet2v-own"), "--steps", "1", "--out", str(tmp_path / "clip.gif")]
    assert sample.main([*CAPTIONS, *words]) == 0
    assert "16 frames" in capsys.readouterr().out
    contents = {(tmp_path / f"clip-{k}.gif").read_bytes() for k in (1, 2)}
    assert len(contents) == 2 and not (tmp_path / "clip.gif").exists()
    assert sample.main([CAPTIONS[0], "--weights", "a/b"]) == 2
    assert "neither a folder nor owner/name/folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--out", "clip.avi"], "neither .gif nor .mp4"),
        (["--run", "nowhere"], "not the run folder of a finished distillation"),
        (["--steps", "21"], "this student knows 1 to 20"),
    ],
)
def test_sampling_says_what_is_wrong(distilled, words, message, capsys):
    code = sample.main(["block moving right", "--run", str(distilled), *words])
    assert code == 2 and message in capsys.readouterr().err
