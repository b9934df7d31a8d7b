"""VQRAE's commands for people: tokens, measure, draw."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file, save_model

from common.models.classifiers import convnext, vgg16
from projects.vqrae.encoder import EncoderConfig
from projects.vqrae.model import VQRAE, Codebook
from projects.vqrae.prior import LanguageModel, Prior
from projects.vqrae.tools import draw, measure, tokens

ENCODER = {
    "kind": "siglip",
    "sizes": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
}
BOOK = {"size": 20, "dim": 6}
LANGUAGE = {
    "sizes": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 32,
    },
    "text_length": 4,
}


def write_run(folder: Path, model: dict, state: dict | torch.nn.Module) -> Path:
    folder.mkdir()
    config = {"run_dir": str(folder), "model": model, "data": {"image_size": 32}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if isinstance(state, torch.nn.Module):
        save_model(state, str(folder / "weights.safetensors"))
    else:
        save_file(state, folder / "weights.safetensors")
    return folder


def write_tokenizer(folder: Path, seed: int, nets: dict, **codebook) -> Path:
    torch.manual_seed(seed)
    book = {**BOOK, **codebook}
    model = {"encoder": ENCODER, "codebook": book, "encoder_lr": 1e-5, "perceptual": nets}
    return write_run(folder, model, VQRAE(EncoderConfig(**ENCODER), Codebook(**book)).state_dict())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    save_file(vgg16(2, 3).state_dict(), root / "vgg.safetensors")
    save_file(convnext((8, 8, 8, 8), (1, 1, 1, 1), 3).state_dict(), root / "convnext.safetensors")
    nets = {
        "vgg_weights": str(root / "vgg.safetensors"),
        "convnext_weights": str(root / "convnext.safetensors"),
        "vgg_width": 2,
        "learned_heads": False,
        "convnext_widths": [8, 8, 8, 8],
        "convnext_depths": [1, 1, 1, 1],
        "classes": 3,
        "convnext_size": 32,
    }
    one = write_tokenizer(root / "one", 0, nets)
    found = {"one": one, "other": write_tokenizer(root / "other", 1, nets)}
    found["rae"] = write_tokenizer(root / "rae", 0, nets, kind="none")
    prior = Prior(LanguageModel(**LANGUAGE), BOOK["size"])
    model = {
        "encoder": ENCODER,
        "codebook": BOOK,
        "tokenizer_weights": str(one / "weights.safetensors"),
        "language_model": LANGUAGE,
        "caption_drop": 0.1,
    }
    found["prior"] = write_run(root / "prior", model, prior)
    return found


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("wide.png", (20, 60, 3)), ("high.png", (90, 40, 3)), ("grey.png", (32, 32))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return folder


def test_pictures_to_tokens_and_back(runs, photos, tmp_path, capsys):
    """Decoding what was encoded gives the right half of the reconstruction, pixel for pixel."""
    file, run = tmp_path / "tokens.npz", str(runs["one"])
    assert tokens.main(["encode", str(photos), "--run", run, "--out", str(file), "--batch", "2"]) == 0
    with np.load(file) as held:
        assert held["tokens"].shape == (3, 16) and held["tokens"].dtype == np.int32 and held["tokens"].max() < 20
        assert [Path(name).name for name in held["names"]] == ["grey.png", "high.png", "wide.png"]
    assert tokens.main(["decode", str(file), "--run", run, "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert tokens.main(["reconstruct", str(photos), "--run", run, "--out", str(tmp_path / "seen")]) == 0
    said = capsys.readouterr().out.splitlines()
    for name, line in zip(("grey", "high", "wide"), said, strict=True):
        pair, again = (np.array(Image.open(tmp_path / f"{where}/{name}.png")) for where in ("seen", "again"))
        assert pair.shape == (32, 64, 3) and np.array_equal(pair[:, 32:], again)
        error = np.square((pair[:, :32].astype(float) - pair[:, 32:]) / 255).mean()
        assert f"{name}.png: PSNR" in line and float(line.split("PSNR ")[1].split()[0]) == pytest.approx(
            -10 * np.log10(error), abs=0.1
        )


def test_a_picture_that_cannot_be_read_is_left_out(runs, photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"nothing")
    arguments = ["--run", str(runs["one"]), "--out", str(tmp_path / "tokens.npz")]
    assert tokens.main(["encode", str(photos), *arguments]) == 1
    assert "broken.png" in capsys.readouterr().err and len(np.load(tmp_path / "tokens.npz")["names"]) == 3
    assert tokens.main(["encode", str(photos / "broken.png"), *arguments]) == 2


@pytest.mark.parametrize(
    ("run", "change", "message"),
    [
        ("other", {}, "of another tokenizer"),
        ("one", {"tokens": np.full((1, 16), 20, np.int32)}, "of another tokenizer"),
        ("one", {"tokens": np.zeros((1, 4), np.int32)}, "of another tokenizer"),
        ("one", {"tokens": np.zeros((1, 16))}, "holds no tokens"),
        ("one", {"tokens": np.zeros((2, 16), np.int32)}, "holds no tokens"),
        ("rae", {}, "has a continuous latent"),
        ("prior", {}, "is a run of another stage"),
    ],
)
def test_tokens_of_another_tokenizer_are_refused(run, change, message, runs, tmp_path, capsys):
    from projects.vqrae.tools.loading import load_trained

    identity = load_trained(runs["one"]).identity()
    content = {"tokens": np.zeros((1, 16), np.int32), "names": np.array(["a.png"]), "tokenizer": np.array(identity)}
    np.savez(tmp_path / "tokens.npz", **{**content, **change})
    arguments = ["decode", str(tmp_path / "tokens.npz"), "--run", str(runs[run]), "--out", str(tmp_path / "out")]
    assert tokens.main(arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04half"])
def test_a_file_that_holds_no_tokens(content, runs, tmp_path, capsys):
    (tmp_path / "tokens.npz").write_bytes(content)
    arguments = ["decode", str(tmp_path / "tokens.npz"), "--run", str(runs["one"]), "--out", str(tmp_path / "out")]
    assert tokens.main(arguments) == 2
    assert "give a file that `encode` wrote" in capsys.readouterr().err


def test_results_of_one_name_are_refused(runs, photos, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(photos / "grey.jpg")
    assert tokens.main(["reconstruct", str(photos), "--run", str(runs["one"]), "--out", str(tmp_path / "out")]) == 2
    assert "rename a picture" in capsys.readouterr().err


def test_measure_agrees_with_the_tokenizer_itself(runs, photos, tmp_path, capsys):
    from projects.vqrae.tools.loading import Batches, load_trained

    file = tmp_path / "measured.json"
    assert measure.main([str(photos), "--run", str(runs["one"]), "--batch", "2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert set(found) == set(measure.LABELS) and found["pictures"] == 3 and "rFID: " in capsys.readouterr().out
    trained = load_trained(runs["one"])
    images = [image for _, part in Batches([photos], 8) for image in part]
    pixels = trained.pixels(images)
    with torch.no_grad():
        out = trained.tokenizer(pixels)
    psnr = -10 * (out.images.clamp(0, 1) - pixels).square().mean((1, 2, 3)).log10()
    assert found["psnr"] == pytest.approx(psnr.mean().item(), rel=1e-5)
    assert found["usage"] == pytest.approx(len(out.indices.unique()) / 20)


def test_drawing_follows_the_seed(runs, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a blue ring\n")
    arguments = [
        "a red star",
        "--prompts",
        str(prompts),
        "--run",
        str(runs["prior"]),
        "--count",
        "2",
        "--guidance",
        "2",
    ]
    for seed, out in (("0", "a"), ("0", "b"), ("1", "c")):
        assert draw.main([*arguments, "--seed", seed, "--out", str(tmp_path / out)]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("a blue ring -> ")
    names = ["000-0.png", "000-1.png", "001-0.png", "001-1.png"]
    drawn = {out: [np.array(Image.open(tmp_path / out / name)) for name in names] for out in "abc"}
    assert all(image.shape == (32, 32, 3) for image in drawn["a"])
    assert all(map(np.array_equal, drawn["a"], drawn["b"])) and not all(map(np.array_equal, drawn["a"], drawn["c"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to draw"),
        ([" "], "nothing to draw"),
        (["a star", "--temperature", "0"], "--temperature is above 0"),
        (["a star", "--guidance", "nan"], "--guidance is 0 or more"),
        (["a star", "--count", "0"], "at least 1"),
        (["a star", "--top-k", "0"], "at least 1"),
    ],
)
def test_draw_says_what_is_wrong(arguments, message, runs, tmp_path, capsys):
    assert draw.main([*arguments, "--run", str(runs["prior"]), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_a_damaged_run_are_a_message(runs, photos, tmp_path, capsys):
    for number, change in enumerate(
        ({"model": None}, {"data": {}}, {"model": {"codebook": {"colour": 1}, "encoder_lr": 1}})
    ):
        run = tmp_path / str(number)
        run.mkdir()
        config = yaml.safe_load((runs["one"] / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | change))
        (run / "weights.safetensors").write_bytes((runs["one"] / "weights.safetensors").read_bytes())
        assert tokens.main(["encode", str(photos), "--run", str(run), "--out", str(tmp_path / "t.npz")]) == 2
        assert "give the folder of a run of the right stage" in capsys.readouterr().err


def test_draw_wants_a_prior_that_is_finished(runs, tmp_path, capsys):
    assert draw.main(["a star", "--run", str(runs["one"]), "--out", str(tmp_path / "out")]) == 2
    assert "is a run of another stage" in capsys.readouterr().err
    (tmp_path / "half").mkdir()
    (tmp_path / "half/config.yaml").write_text((runs["prior"] / "config.yaml").read_text())
    assert draw.main(["a star", "--run", str(tmp_path / "half"), "--out", str(tmp_path / "out")]) == 2
    assert "not finished" in capsys.readouterr().err
