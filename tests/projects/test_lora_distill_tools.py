"""The commands for people: distil a pipeline, draw side by side, merge; diffusers reads what they write; errors."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from common.models.lora import Lora, trained_part
from common.models.text_to_image import load_text_to_image
from common.rehearsal.diffusion_models import stable_diffusion
from projects.lora_distill.model import Pair
from projects.lora_distill.tools import distil, draw, merge
from projects.lora_distill.tools.students import ADAPTER, of_adapter, write_adapter
from tests.projects.lora_distill_small import CAPTIONS, write_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of pixels in `model/`, its prompts, and an adapter that `distil` made, in `mine/`."""
    folder = tmp_path_factory.mktemp("tools")
    write_model(folder / "model")
    (folder / "prompts.txt").write_text("\n".join([*CAPTIONS[:3], ""]), encoding="utf-8")
    words = ["--steps", "20", "--batch", "3", "--drawing-steps", "2", "--lr", "0.01", "--guidance", "3"]
    files = ["--model", folder / "model", "--prompts", folder / "prompts.txt", "--out", folder / "mine"]
    assert run(distil, *files, *words, "--device", "cpu") == 0
    return folder


def run(command, *words):
    return command.main([str(word) for word in words])


def fails(capsys, command, *words):
    """The message of a command that is to end with exit code 2 before anything is written."""
    capsys.readouterr()
    assert run(command, *words) == 2
    return capsys.readouterr().err


def test_an_adapter_holds_the_student_and_its_guidance(place):
    student = of_adapter(place / "mine")
    assert student.guidance == 3 and student.lora.rank == 4 and student.model == str(place / "model")
    assert len(student.weights) == len(load_file(place / "mine" / ADAPTER)) > 0
    teacher, found = load_text_to_image(place / "model"), student.load()
    z, t = torch.randn(2, 3, 8, 8), torch.tensor([5, 700])
    with torch.no_grad():
        context = teacher.encode_text(CAPTIONS[:2])
        ours, theirs = found.unet(z, t, context).sample, teacher.unet(z, t, context).sample
    assert not torch.allclose(ours, theirs, atol=1e-4)


def test_side_by_side_with_what_each_took(place, tmp_path, capsys):
    words = ["--adapter", place / "mine", "--steps", "3", "--device", "cpu"]
    assert run(draw, *CAPTIONS[:2], *words, "--out", tmp_path / "a.png", "--compare") == 0
    said = capsys.readouterr().out
    assert "student, 1 evaluation a step: 3 calls" in said and "guidance 3, 2 evaluations: 6 calls" in said
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (2 * 64 + 4, 3 * 64 + 2 * 4, 3)
    assert run(draw, CAPTIONS[0], *words, "--out", tmp_path / "b.png") == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), sheet[:64, :64])  # the student's, the same noise


def test_merged_it_draws_the_same_without_an_adapter(place, tmp_path):
    assert run(merge, "--adapter", place / "mine", "--out", tmp_path / "whole") == 0
    found, student = load_text_to_image(tmp_path / "whole"), of_adapter(place / "mine").load()
    arguments = student.encode_text(CAPTIONS[:2]).detach(), 3, 1.0, "ddim", None
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    torch.testing.assert_close(found.sample(*arguments, noise[0]), student.sample(*arguments, noise[1]))
    assert found.state_dict().keys() == load_text_to_image(place / "model").state_dict().keys()


def test_diffusers_reads_the_adapter_and_the_merged_pipeline(tmp_path):
    """On a Stable Diffusion with an autoencoder: the three ways to draw with a student agree.

    Its list of parts names two that are not there, as on a machine that has a hub's model without what draws nothing.
    """
    torch.manual_seed(0)
    stable_diffusion(tmp_path / "sd", version=2)
    index = tmp_path / "sd/model_index.json"
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | checker))
    shutil.rmtree(tmp_path / "sd/feature_extractor")
    pair = Pair(load_text_to_image(tmp_path / "sd").unet, Lora(4, gaussian=True))
    with torch.no_grad():
        for parameter in trained_part(pair.student).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    (tmp_path / "mine").mkdir()
    write_adapter(tmp_path / "mine", pair.student, 7.5, str(tmp_path / "sd"))
    assert run(merge, "--adapter", tmp_path / "mine", "--out", tmp_path / "whole") == 0

    def drawn(pipe):
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        return pipe("a cat", 64, 64, 2, guidance_scale=1.0, generator=noise, output_type="np").images

    lacks = {"safety_checker": None, "feature_extractor": None}
    with_adapter = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", **lacks)
    plain = drawn(with_adapter)
    with_adapter.load_lora_weights(tmp_path / "mine")
    whole = StableDiffusionPipeline.from_pretrained(tmp_path / "whole")
    assert type(whole.scheduler) is type(with_adapter.scheduler)
    np.testing.assert_allclose(drawn(whole), drawn(with_adapter), atol=2e-3)
    assert np.abs(drawn(whole) - plain).max() > 1e-2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--guidance", "1"], "above 1"),
        (["--rank", "0"], "--rank is at least 1"),
        (["--steps", "0"], "--steps is at least 1"),
        (["--lr", "2"], "--lr 2: between 0 and 1"),
        (["--drawing-steps", "1000"], "--drawing-steps is at least 1 and below 1000"),
        (["--seed", str(2**70)], "a whole number from 0"),
        (["--prompts", "nowhere.txt"], "there is no such file"),
        (["--model", "no/such/model/here"], "neither a folder nor a hub id"),
    ],
)
def test_what_distil_refuses(place, tmp_path, capsys, words, said):
    given = ["--model", place / "model", "--prompts", place / "prompts.txt", "--out", tmp_path / "new"]
    assert said in fails(capsys, distil, *given, *words, "--device", "cpu")


def test_what_the_others_refuse(place, tmp_path, capsys):
    out = ["--out", tmp_path / "x.png", "--device", "cpu"]
    assert "is no run folder of a finished distillation" in fails(capsys, draw, "a", "--run", tmp_path, *out)
    assert "no weight file" in fails(capsys, draw, "a", "--adapter", tmp_path, *out)
    assert "give a .png" in fails(capsys, draw, "a", "--adapter", place / "mine", "--out", tmp_path / "x.gif")
    assert "there is no folder" in fails(capsys, draw, "a", "--adapter", place / "mine", "--out", "no/where/x.png")
    assert "--steps is at least 1" in fails(capsys, draw, "a", "--adapter", place / "mine", *out, "--steps", "0")
    assert "below 1000" in fails(capsys, draw, "a", "--adapter", place / "mine", *out, "--steps", "5000")
    assert "a whole number from 0" in fails(capsys, draw, "a", "--adapter", place / "mine", *out, "--seed", "-1")
    (tmp_path / "d.png").mkdir()
    assert "that is a folder" in fails(capsys, draw, "a", "--adapter", place / "mine", "--out", tmp_path / "d.png")
    assert "is not empty" in fails(capsys, merge, "--adapter", place / "mine", "--out", place)
    (tmp_path / "empty.txt").write_text(" \n")
    assert "holds no prompt" in fails(
        capsys, distil, "--prompts", tmp_path / "empty.txt", "--out", tmp_path / "new", "--model", place / "model"
    )
    strange = tmp_path / "strange"
    strange.mkdir()
    save_file({"text_encoder.x": torch.zeros(2)}, strange / ADAPTER)
    assert "which is no update" in fails(capsys, draw, "a", "--adapter", strange, *out)
    state = load_file(place / "mine" / ADAPTER)
    save_file(state, strange / ADAPTER)
    assert "does not say which guidance" in fails(capsys, draw, "a", "--adapter", strange, *out)


def test_another_model_than_the_student_s_is_refused(place, tmp_path, capsys):
    torch.manual_seed(0)
    stable_diffusion(tmp_path / "sd", version=2)
    words = ["--adapter", place / "mine", "--model", tmp_path / "sd"]
    said = fails(capsys, merge, *words, "--out", tmp_path / "new")
    assert "no student of" in said or "shape" in said


@pytest.mark.parametrize("command", [distil, draw, merge])
def test_help_comes_without_torch(command, capsys, monkeypatch):
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as ended:
        command.parser().parse_args(["--help"])
    assert ended.value.code == 0 and "python -m projects.lora_distill.tools." in capsys.readouterr().out
