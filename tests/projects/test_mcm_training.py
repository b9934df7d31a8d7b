"""MCM's student, its training step and stages, on a tiny untrained teacher."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from diffusers import UNetMotionModel
from PIL import Image
from safetensors.torch import save_model

from common.cli import main, one_seed
from common.training.weights import load_state
from projects.mcm.data import VideoData
from projects.mcm.distill import Adversary, MotionConsistency
from projects.mcm.evaluate import Evaluation
from projects.mcm.features import DinoClassifier, FrameEncoder, SentenceEncoder
from projects.mcm.measures import Measures, VideoMeasures
from projects.mcm.model import Lora, VideoModel, build_student, denoise, load_video_model, merge_lora, trained_part
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
    torch.testing.assert_close(denoise(merge_lora(student), z, t, context), apart, atol=1e-4, rtol=1e-4)


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
    torch.testing.assert_close(denoise(merge_lora(student), z, t, context), apart, atol=1e-4, rtol=1e-4)


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


def test_evaluation_measures_motion_and_appearance_apart(folder, distilled, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    judge = {"judge": {"vision": VISION, "weights": str(folder / "dino.safetensors"), "size": 8}}
    world = "common.data.worlds.moving_glyphs"
    sources = [("test", "MovingGlyphs"), ("images", "StillGlyphs")]
    words = ["--model.teacher.source", str(folder / "model"), "--model.measures", json.dumps(judge)]
    for name, kind in sources:
        given = {"class_path": f"{world}.{kind}", "init_args": {"split": "test", "size": 8}}
        words += [f"--data.{name}", json.dumps(given)]
    words += ["--model.steps", "[1,2]", "--model.knots", "20", "--model.lora", '{"rank": 2, "alpha": 2.0}']
    words += ["--model.weights", str(distilled / "weights.safetensors"), "--threads", "1", *DATA]
    main(Evaluation, VideoData, ["test", *words, "--run_dir", str(tmp_path)], one_seed)
    metrics = json.loads((tmp_path / "done.json").read_text())["metrics"]
    names = ("motion_error", "obeys", "bar", "frame_fd", "video_fd")
    assert set(metrics) == {f"{name}_{steps}" for name in names for steps in (1, 2)}
    pictures = json.loads((tmp_path / "pictures/index.json").read_text())
    assert [entry["key"] for entry in pictures] == ["videos", "1 steps", "2 steps"]


def test_measures_of_several_numbers_of_steps_share_their_nets_but_not_what_they_saw(folder):
    first = VideoMeasures(Measures(judge=encoder(folder)))
    second = first.another()
    assert second.frame_fd.inception is first.frame_fd.inception
    second.images(torch.rand(4, 3, 8, 8))
    assert (first.frame_fd.real_features_num_samples, second.frame_fd.real_features_num_samples) == (0, 4)


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
    make = lambda seed: sample.make_video(distilled, "block moving right", 2, seed, torch.device("cpu"))  # noqa: E731
    assert torch.equal(make(0), make(0)) and not torch.allclose(make(0), make(1))
    assert np.isfinite(make(0).numpy()).all()


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
