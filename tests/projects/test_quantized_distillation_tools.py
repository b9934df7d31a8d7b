"""The command that packs and restores weights: exact copies of what was quantized, files from the wild, errors."""

import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from common.errors import UserError
from projects.quantized_distillation.quantize import scale, uniform
from projects.quantized_distillation.tools import packed
from projects.quantized_distillation.tools.compress import main


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    state = {
        "conv.weight": torch.randn(30, 20, 3, 3),
        "conv.bias": torch.randn(30),
        "norm.running_var": torch.rand(30),
        "norm.num_batches_tracked": torch.tensor(7),
        "half": torch.randn(40, 40).half(),
        "brain": torch.randn(5, 7).bfloat16(),
        "double": torch.randn(3, 4).double(),
        "constant": torch.full((6, 6), 0.25),
        "empty": torch.zeros(0, 3),
    }
    save_file(state, tmp_path / "model.safetensors")
    return state


def run(*words):
    return main([str(word) for word in words])


def there_and_back(folder, *words):
    assert run("pack", folder / "model.safetensors", "--out", folder / "m.q", *words) == 0
    assert run("restore", folder / "m.q", "--out", folder / "back.safetensors") == 0
    return load_file(folder / "back.safetensors")


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_weights_come_back_near_in_their_shapes_and_types(model, tmp_path, bits, capsys):
    found = there_and_back(tmp_path, "--bits", bits)
    assert sorted(found) == sorted(model)
    for name, value in model.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
    for name in ("conv.bias", "norm.running_var", "norm.num_batches_tracked", "constant", "empty"):
        assert torch.equal(found[name], model[name])
    for name in ("conv.weight", "half"):
        error = (found[name].float() - model[name].float()).square().mean().sqrt()
        assert error < {1: 0.7, 3: 0.25, 4: 0.13, 8: 0.012}[bits]
    said = capsys.readouterr().out
    assert "5 tensors quantized, 4 tensors whole" in said and "times smaller" in said
    size = (tmp_path / "m.q").stat().st_size
    assert f"{size:,} after" in said and size < (tmp_path / "model.safetensors").stat().st_size


def test_uniform_points_are_the_papers_quantization(model, tmp_path):
    found = there_and_back(tmp_path, "--bits", 2, "--points", "uniform", "--bucket", 64)
    for name in ("conv.weight", "half"):
        expected = uniform(model[name].float(), 4, 64).to(model[name].dtype)
        assert torch.allclose(found[name].float(), expected.float(), atol=2e-3)


@pytest.mark.parametrize("shape", [(2000,), (3,), (1,), (4097,)])
def test_learned_points_beat_equally_spaced_ones_and_no_move_of_one_helps(shape):
    torch.manual_seed(1)
    scaled = scale(torch.randn(shape) ** 3, 256)
    weights = scaled.restore(scaled.values)

    def error(points):
        codes = packed.nearest(scaled.values, points)
        return float((scaled.restore(points[codes]) - weights).double().square().sum())

    points = packed.fit_points(scaled, 8)
    assert torch.equal(points.sort().values, points) and error(points) <= error(torch.linspace(0, 1, 8)) + 1e-9
    if shape == (2000,):
        for k in range(8):
            for step in (-0.01, 0.01):
                moved = points.clone()
                moved[k] += step
                assert error(moved.sort().values) > error(points)


def test_vectors_and_patterns_are_chosen(model, tmp_path, capsys):
    there_and_back(tmp_path, "--vectors", "--keep", "brain", "--keep", "hal*")
    assert "conv.bias" in capsys.readouterr().out
    with safe_open(tmp_path / "m.q", "pt") as file:
        entries = {entry["name"]: entry["bucket"] for entry in json.loads(file.metadata()[packed.FORMAT])}
    assert entries["conv.bias"] == 256 and entries["norm.running_var"] == entries["brain"] == entries["half"] == 0


def test_a_file_of_torch_save_is_read_and_four_bits_are_seven_times_smaller(tmp_path, capsys):
    weights = torch.nn.Parameter(torch.randn(300, 300))  # as dict(model.named_parameters()) has them
    torch.save({"state_dict": {"module.w": weights}}, tmp_path / "w.pt")
    assert run("pack", tmp_path / "w.pt", "--out", tmp_path / "w.q") == 0
    assert run("restore", tmp_path / "w.q", "--out", tmp_path / "w.safetensors") == 0
    assert set(load_file(tmp_path / "w.safetensors")) == {"w"}
    assert 7 < (tmp_path / "w.pt").stat().st_size / (tmp_path / "w.q").stat().st_size < 9
    again = tmp_path / "again.q"
    assert run("pack", tmp_path / "w.pt", "--out", again) == 0
    assert again.read_bytes() == (tmp_path / "w.q").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pack", "model.safetensors", "--out", "m.q", "--bits", "9"], "1 to 8"),
        (["pack", "model.safetensors", "--out", "m.q", "--bucket", "1"], "at least 2"),
        (["pack", "model.safetensors", "--out", "model.safetensors"], "is read"),
        (["pack", "model.safetensors", "--out", "no/m.q"], "folder that exists"),
        (["pack", "none.safetensors", "--out", "m.q"], "no weight file"),
        (["pack", "bad.safetensors", "--out", "m.q"], "damaged"),
        (["pack", "model.safetensors", "--keep", "head.*", "--out", "m.q"], "no tensor has such a name"),
        (["pack", "nan.safetensors", "--out", "m.q"], "--keep 'w'"),
        (["pack", "wide.safetensors", "--out", "m.q"], "--keep 'w'"),
        (["pack", "wider.safetensors", "--out", "m.q"], "--keep 'w'"),
        (["pack", "sparse.pt", "--out", "m.q"], "no plain numbers"),
        (["pack", "meta.pt", "--out", "m.q"], "no plain numbers"),
        (["pack", "vector.safetensors", "--out", "m.q"], "--vectors"),
        (["pack", "whole.safetensors", "--out", "m.q"], "floating-point"),
        (["restore", "model.safetensors", "--out", "b.safetensors"], "not written by"),
        (["restore", "bad.safetensors", "--out", "b.safetensors"], "damaged"),
        (["restore", "none.q", "--out", "b.safetensors"], "no packed weights"),
        (["restore", "model.safetensors", "--out", "b.pt"], "safetensors"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(model, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"<html>")
    save_file({"w": torch.tensor([[1.0, float("nan")]])}, "nan.safetensors")
    save_file({"w": torch.tensor([[3e38, -3e38]])}, "wide.safetensors")
    save_file({"w": torch.tensor([[1e300, 2e300]]).double()}, "wider.safetensors")
    torch.save({"w": torch.eye(3).to_sparse()}, "sparse.pt")
    torch.save({"w": torch.ones(3, 3, device="meta")}, "meta.pt")
    save_file({"w": torch.ones(3)}, "vector.safetensors")
    save_file({"w": torch.ones(3, 3, dtype=torch.int64)}, "whole.safetensors")
    before = sorted(tmp_path.iterdir())
    assert run(*words) == 2
    assert said in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


def test_damaged_packed_files_are_refused_or_harmless(model, tmp_path):
    assert run("pack", tmp_path / "model.safetensors", "--out", tmp_path / "m.q") == 0
    with safe_open(tmp_path / "m.q", "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def refused(changes=None, said=metadata[packed.FORMAT]):
        save_file({**tensors, **(changes or {})}, tmp_path / "x.q", {packed.FORMAT: said})
        with pytest.raises(UserError, match="damaged"):
            packed.read(tmp_path / "x.q")

    k = next(n for n, e in enumerate(json.loads(metadata[packed.FORMAT])) if e["name"] == "conv.weight")
    for part in ("stream", "marks", "lengths", "scale", "points"):
        refused({f"{k}.{part}": tensors[f"{k}.{part}"][:1]})
    refused({f"{k}.marks": tensors[f"{k}.marks"] - 10**9})
    for key, value in (
        ("shape", [10**9, 10**9]),
        ("shape", [-30, -180]),
        ("bucket", -5),
        ("type", "object"),
        ("shape", "x"),
    ):
        entries = json.loads(metadata[packed.FORMAT])
        entries[k][key] = value
        refused(said=json.dumps(entries))
    refused(said="[")
    rng = np.random.default_rng(0)
    content = (tmp_path / "m.q").read_bytes()
    for _ in range(60):
        spoiled = bytearray(content)
        spoiled[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        (tmp_path / "y.q").write_bytes(spoiled[: rng.integers(len(content)) if rng.random() < 0.3 else None])
        with suppress(UserError):
            packed.read(tmp_path / "y.q")
