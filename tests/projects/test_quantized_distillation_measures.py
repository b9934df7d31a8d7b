"""What evaluation and the study of rounding report: known cases, floors and ceilings."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from common.errors import UserError
from projects.quantized_distillation.evaluate import Evaluation
from projects.quantized_distillation.model import ConvNet, Sizes
from projects.quantized_distillation.noise import Layers, Noise, expected_variance
from projects.quantized_distillation.quantize import Quantizer, scale, uniform

SMALL = Sizes(filters=[4], kernel=3, units=[8], pool=[0], side=8)


@pytest.fixture(autouse=True)
def chance():
    torch.manual_seed(0)


@pytest.fixture
def weights(tmp_path):
    net = ConvNet(SMALL)
    save_model(net, str(tmp_path / "net.safetensors"))
    return str(tmp_path / "net.safetensors")


def measured(stage, batches):
    found = {}
    stage.log = lambda name, value: found.__setitem__(name.removeprefix("test/"), float(value))
    for number, batch in batches:
        stage.test_step(batch, 0, number)
    stage.on_test_epoch_end()
    return found


def test_what_is_measured_is_the_quantized_network(weights, tmp_path):
    quantizer = Quantizer(2, 16)
    stage = Evaluation(SMALL, weights, quantizer)
    stage.run_dir = tmp_path
    whole = Evaluation(SMALL, weights)
    for name, value in stage.net.named_parameters():
        assert torch.equal(value, uniform(dict(whole.net.named_parameters())[name], 4, 16))
    images = torch.rand(200, 3, 8, 8)
    answers = stage.net(images).argmax(1)
    perfect, shifted = ({"image": images, "label": (answers + k) % 10} for k in (0, 1))
    found = measured(stage, [(0, perfect), (1, shifted)])
    assert found["accuracy"] == 1 and found["val_accuracy"] == 0
    assert found["accuracy_whole"] == pytest.approx(float((whole.net(images).argmax(1) == answers).float().mean()))
    assert found["bits"] <= 2 and found["kilobytes"] < 0.5 * found["params"] * 4 / 1000
    again = Evaluation(SMALL, weights)
    found = measured(again, [(0, perfect)])
    assert found["bits"] == 32 and found["kilobytes"] == pytest.approx(4 * found["params"] / 1000)
    assert "val_accuracy" not in found and "accuracy_whole" not in found


def test_points_need_their_buckets(weights):
    with pytest.raises(UserError, match="quantizer"):
        Evaluation(SMALL, weights, points=True)


def test_the_variance_of_rounding_in_closed_form():
    values, inputs = torch.tensor([0.0, 0.25, 1.0]), torch.tensor([5.0, 2.0, 7.0])
    assert float(expected_variance(values, inputs, 2, None)) == pytest.approx(4 * 0.25 * 0.75)
    assert float(expected_variance(values * 3, inputs, 4, None)) == pytest.approx(4 * 0.75 * 0.25)


def test_the_study_tells_noise_that_is_biased_or_too_small(tmp_path, monkeypatch):
    def study():
        torch.manual_seed(0)
        stage = Noise(draws=4000)
        stage.run_dir = tmp_path
        layers = Layers(widths=(4, 300), seed=1)
        return measured(_Single(stage), [(0, pair) for pair in layers.test_dataloader()])

    sound = study()
    assert sound["noise_bias"] < 0.06 and sound["noise_variance"] == pytest.approx(1, abs=0.1)
    assert sound["noise_wide"] < 0.03 < sound["noise_narrow"]
    real = Noise.errors
    monkeypatch.setattr(Noise, "errors", lambda self, w, x: real(self, w, x) + 0.5 * np.sqrt(0.1))
    assert study()["noise_bias"] > 0.06  # biased
    monkeypatch.setattr(Noise, "errors", lambda self, w, x: 0.5 * real(self, w, x))
    assert study()["noise_variance"] == pytest.approx(0.25, abs=0.03)


class _Single:
    """A stage of one loader, called as one of several."""

    def __init__(self, stage):
        self.__dict__["stage"] = stage

    def __setattr__(self, name, value):
        setattr(self.stage, name, value)

    def test_step(self, batch, batch_idx, number):
        self.stage.test_step(batch, batch_idx)

    def on_test_epoch_end(self):
        self.stage.on_test_epoch_end()


def test_deterministic_rounding_is_biased_where_stochastic_rounding_is_not():
    values, inputs = torch.rand(400) * 0.3 + 0.05, torch.ones(400)
    values[0], values[1] = 0.0, 1.0
    nearest = ((uniform(values, 2, None) - values) * inputs).sum()
    draws = torch.stack([uniform(values, 2, None, torch.rand(scale(values, None).values.shape)) for _ in range(400)])
    assert abs(((draws - values) @ inputs).mean()) < 2 < abs(nearest)
