"""degla: the recipe's own rules, and a short run of it."""

import torch
from PIL import Image
from safetensors.torch import save_model

from benchmarks.running.recipes import load, page
from projects.degla.data import CLASSES
from projects.degla.tools.classify import main
from projects.degla.train import ShapeClassifier, convnet


def test_the_page_fits_the_recipe():
    assert page("degla").claims
    for scale in ("mini", "rehearsal", "paper"):
        assert sum(arm.method for arm in load("degla").arms(scale).values()) == 1


def test_the_teacher_gets_no_gradient(tmp_path):
    save_model(convnet(4), str(tmp_path / "teacher.safetensors"))
    model = ShapeClassifier(4, teacher_width=4, teacher_weights=str(tmp_path / "teacher.safetensors"))
    model.log = lambda *_, **__: None
    model.training_step((torch.randn(2, 3, 32, 32), torch.zeros(2, len(CLASSES))), 0).backward()
    assert all(parameter.grad is not None for parameter in model.net.parameters())
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_the_tool_names_what_a_net_sees(tmp_path, capsys):
    save_model(convnet(8), str(tmp_path / "weights.safetensors"))
    Image.new("RGB", (40, 30), "white").save(tmp_path / "white.png")
    assert main([str(tmp_path / "weights.safetensors"), str(tmp_path / "white.png")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'white.png'}: ")
    assert main([str(tmp_path / "weights.safetensors"), str(tmp_path / "weights.safetensors")]) == 2
    assert "is not a picture" in capsys.readouterr().err
