"""Pictures drawn again, embeddings exported and put together, the authors' weights, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model

from projects.vlv.harness.rehearsal import official_state
from projects.vlv.model import build_captioner
from projects.vlv.tools import caption, compose, embed, models, reconstruct
from tests.projects.vlv_small import QUERIES, SIZES, florence, write_foundations

CONFIGS = Path(caption.__file__).parents[1] / "configs/paper"
FLORENCE = {"sizes": SIZES, "prompt": [4, 5], "image_size": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of stage 1 and of stage 2, and the latter's net in the authors' format."""
    folder = tmp_path_factory.mktemp("runs")
    t2i, words = write_foundations(folder)
    torch.manual_seed(0)
    net = build_captioner(florence(), t2i, words, QUERIES)
    model = {"florence": FLORENCE, "queries": QUERIES, "text_to_image": t2i, "lr": 1e-3}
    for stage, more, part in (
        ("first", {}, net.encoder),
        ("second", {"unfrozen": "encoder", "language_model": words}, net),
    ):
        (folder / stage).mkdir()
        settings = {"model": model | more, "data": {"image_size": 8}}
        (folder / stage / "config.yaml").write_text(yaml.safe_dump(settings))
        save_model(part, str(folder / stage / "weights.safetensors"))
    save_file(official_state(net), folder / "official.safetensors")
    return folder


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in/more").mkdir(parents=True)
    for name, shape in {"in/a.png": (30, 20, 3), "in/b.jpg": (9, 40, 3), "in/more/a.png": (12, 12)}.items():
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / name)
    return tmp_path / "in"


DRAWING = ["--steps", "2", "--device", "cpu"]


@pytest.fixture
def released(runs, monkeypatch):
    """Options for the authors' weights, in the tests' sizes."""
    parts = {"florence": florence(), "text_to_image": str(runs / "t2i"), "language_model": str(runs / "words")}
    monkeypatch.setattr(models, "_released", lambda options: (parts | {"queries": QUERIES}, 8, options.weights))
    return ["--weights", str(runs / "official.safetensors"), "--device", "cpu"]


def test_the_authors_weights_say_what_ours_say(runs, pictures, released, capsys):
    options = ["--max-tokens", "8", "--raw"]
    assert caption.main([str(pictures), "--run", str(runs / "second"), "--device", "cpu", *options]) == 0
    ours = capsys.readouterr().out
    assert caption.main([str(pictures), *released, *options]) == 0
    assert capsys.readouterr().out == ours
    assert caption.main([str(pictures), *released, *options, "--bf16"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert caption.main([str(pictures), "--weights", str(runs / "none.safetensors"), "--device", "cpu"]) == 2
    assert "no weight file at" in capsys.readouterr().err


def test_the_authors_captioner_is_built_of_what_it_was_trained_with():
    options = caption.parser().parse_args(["a.png", "--weights", models.RELEASED])
    config = yaml.safe_load((CONFIGS / "encoder.yaml").read_text())
    model, size, weights = models._released(options)
    assert (model["florence"].hub, model["queries"]) == (config["model"]["florence"]["hub"], config["model"]["queries"])
    assert (model["text_to_image"], size) == (config["model"]["text_to_image"], config["data"]["image_size"])
    described = yaml.safe_load((CONFIGS / "describe.yaml").read_text())["model"]
    assert model["language_model"] == described["language_model"] and weights == models.RELEASED
    changed = caption.parser().parse_args(["a.png", "--weights", "x", "--language-model", "mine", "--florence", "own"])
    model, _, _ = models._released(changed)
    assert (model["florence"].hub, model["language_model"]) == ("own", "mine")


def test_half_precision_reaches_every_weight(runs, released):
    options = caption.parser().parse_args(["a.png", *released, "--bf16"])
    networks = models.load(options, words=True)
    assert {p.dtype for p in networks.captioner.parameters()} == {torch.bfloat16}
    z = networks.encoder(networks.pixels(np.zeros((9, 8, 3), np.uint8)))
    assert z.dtype == torch.bfloat16 and next(networks.drawer().unet.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(("stage", "columns"), [("first", 2), ("second", 3)])
def test_original_and_drawn_pictures_side_by_side(runs, pictures, tmp_path, capsys, stage, columns):
    out = tmp_path / "out/drawn"
    arguments = [str(pictures), str(pictures / "more/a.png"), "--run", str(runs / stage), "--out", str(out)]
    assert reconstruct.main([*arguments, "--max-tokens", "8", *DRAWING]) == 0
    files = ["a.png", "b.png", "a-2.png"]  # of two pictures with one name none is lost
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(out / file) for file in files]
    for file in files:
        assert np.asarray(Image.open(out / file)).shape == (8, 8 * columns + 8 * (columns - 1), 3)
    shown = np.asarray(Image.open(out / "a.png"))[:, :8]
    with Image.open(pictures / "a.png") as original:
        cropped = np.asarray(original.resize((8, 12), Image.Resampling.BICUBIC))[2:10]
    assert np.abs(shown.astype(int) - cropped).max() <= 1
    if stage == "second":
        assert len(json.loads((out / "captions.json").read_text())) == 3
    else:
        assert not (out / "captions.json").exists()
    first = (out / "a.png").read_bytes()
    reconstruct.main([*arguments, "--max-tokens", "8", *DRAWING])
    assert (out / "a.png").read_bytes() == first  # the same seed, the same picture
    reconstruct.main([*arguments, "--max-tokens", "8", *DRAWING, "--seed", "1"])
    assert (out / "a.png").read_bytes() != first


def test_embeddings_are_exported_in_the_order_of_their_names(runs, pictures, tmp_path, capsys):
    out = tmp_path / "all.safetensors"
    assert (
        embed.main([str(pictures), "--run", str(runs / "first"), "--out", str(out), "--context", "--device", "cpu"])
        == 0
    )
    found = load_file(out)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "embeddings": (2, QUERIES, 16),
        "contexts": (2, QUERIES, 16),
    }
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["names"]) == [str(pictures / name) for name in ("a.png", "b.jpg")]
    one = tmp_path / "one.safetensors"
    embed.main([str(pictures / "b.jpg"), "--run", str(runs / "second"), "--out", str(one), "--device", "cpu"])
    torch.testing.assert_close(load_file(one)["embeddings"][0], found["embeddings"][1])
    assert set(load_file(one)) == {"embeddings"}
    assert "[4, 16] each" in capsys.readouterr().out


def test_embeddings_of_two_pictures_are_put_together(runs, pictures, tmp_path, capsys):
    one, other = torch.arange(4.0).view(1, 4, 1), torch.arange(10.0, 14.0).view(1, 4, 1)
    assert compose.compose(one, other, 3).flatten().tolist() == [0, 1, 2, 10]
    out = tmp_path / "both.png"
    arguments = [str(pictures / "a.png"), str(pictures / "b.jpg"), "--run", str(runs / "first"), "--out", str(out)]
    assert compose.main([*arguments, *DRAWING]) == 0
    half = np.asarray(Image.open(out))
    assert half.shape == (8, 3 * 8 + 2 * 8, 3)
    assert compose.main([*arguments, *DRAWING, "--first", "2"]) == 0
    assert np.array_equal(np.asarray(Image.open(out)), half)  # half of 4
    assert compose.main([*arguments, *DRAWING, "--first", "1", "--bf16"]) == 0
    assert not np.array_equal(np.asarray(Image.open(out))[:, 32:], half[:, 32:])


def test_errors_say_what_to_do(runs, pictures, tmp_path, capsys):
    def refused(tool, *arguments: str) -> str:
        assert tool.main([*arguments, "--device", "cpu"]) == 2
        return capsys.readouterr().err

    picture, first, second = str(pictures / "a.png"), str(runs / "first"), str(runs / "second")
    assert "a run of another stage; give one of stage 2" in refused(caption, picture, "--run", first)
    out = str(tmp_path / "out")
    message = refused(reconstruct, picture, "--run", first, "--out", out, "--drawer", "x/y")
    assert "stage 1, which has no captions" in message
    assert "at least 1" in refused(reconstruct, picture, "--run", second, "--out", out, "--steps", "0")
    assert "cannot make the folder" in refused(reconstruct, picture, "--run", second, "--out", picture)
    assert "give a run folder of stage 1 or 2" in refused(embed, picture, "--run", out, "--out", f"{out}.safetensors")
    assert "there is no folder" in refused(embed, picture, "--run", first, "--out", f"{out}/none/x.safetensors")
    pair = [picture, picture, "--run", first, "--out"]
    assert "keep at least one of each" in refused(compose, *pair, f"{out}.png", "--first", "4")
    assert "give a .png" in refused(compose, *pair, f"{out}.jpg")
    assert "cannot read none.png" in refused(compose, picture, "none.png", "--run", first, "--out", f"{out}.png")
    with pytest.raises(SystemExit):
        caption.main([picture])  # neither a run nor weights
    assert "one of the arguments --run --weights is required" in capsys.readouterr().err
