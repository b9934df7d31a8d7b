"""The command that draws: pictures, words, and errors of one sentence."""

from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from projects.faster_diffusion.propagate import Counts
from projects.faster_diffusion.tools import draw
from projects.faster_diffusion.tools.draw import main, read_keys
from tests.projects.faster_diffusion_small import controlled, scheduler, video
from tests.projects.test_faster_diffusion_sampling import folder  # noqa: F401


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a cat", "--keys", "papre"], "did you mean paper"),
        (["a cat", "--steps", "30"], "20 or 50 steps"),
        (["a cat", "--keys", "1,2"], "step 0"),
        (["a cat", "--keys", "0"], "every 0-th"),
        (["a cat", "--steps", "0"], "at least 1"),
        (["a cat", "--noise", "nan"], "from 0 to 1"),
        (["a cat", "--seed", "-1"], "whole numbers"),
        (["a cat", "--guidance", "nan"], "finite"),
        ([" "], "prompt is empty"),
        (["a cat", "--out", "cat.txt"], "ending"),
        (["a cat", "--half", "--device", "cpu"], "wants a GPU"),
        (["a\ncat"], "control character"),
        (["a cat"], "no/where"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, said, tmp_path, capsys):
    given = ["--model", "no/where", "--out", str(tmp_path / "cat.png")]
    assert main([words[0], *given, *words[1:]]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and said in shown, shown


def test_it_draws_both_side_by_side(folder, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "made/here.png"
    given = ["--model", str(folder[0]), "--out", str(out), "--compare", "--keys", "2", "--steps", "4"]
    assert main(["red block blue slash", *given]) == 0
    shown = capsys.readouterr().out
    assert "encoder    4, decoder    4 steps" in shown
    assert "encoder    2, decoder    4 steps in 2 batches" in shown
    assert np.asarray(Image.open(out)).shape == (256, 2 * 256 + 8, 3)
    assert main(["red block", *given[:4], "--keys", "all", "--steps", "4", "--sequential", "--noise", "0"]) == 0


def test_more_steps_than_times_are_a_users_error(folder, tmp_path, capsys):  # noqa: F811
    given = ["--model", str(folder[0]), "--out", str(tmp_path / "cat.png"), "--keys", "500", "--steps", "2000"]
    assert main(["red block", *given]) == 2
    assert "1000 times" in capsys.readouterr().err


def test_a_pipeline_without_negative_prompts_is_told_apart(tmp_path, monkeypatch, capsys):
    class Plain:
        scheduler = scheduler()

        def __call__(self, prompt):
            """As a latent consistency model's."""

    monkeypatch.setattr(draw, "load", lambda *_: Plain())
    given = ["a cat", "--model", "x", "--out", str(tmp_path / "cat.png"), "--negative", "dogs"]
    assert main(given) == 2
    assert "no --negative" in capsys.readouterr().err


def test_keys_are_read_as_they_are_written():
    assert read_keys("4") == 4
    assert read_keys("0,2,5") == [0, 2, 5]
    assert read_keys("paper") == "paper"


def test_a_pipeline_that_wants_more_than_a_prompt_is_told_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("common.hub.from_pretrained", lambda *_, **__: controlled()[0])
    assert main(["a cat", "--model", "x", "--out", str(tmp_path / "cat.png")]) == 2
    assert "in your own code" in capsys.readouterr().err


def test_a_model_of_videos_writes_a_gif_and_nothing_less(tmp_path, monkeypatch, capsys):
    """Frames come out of the pipeline; here they are made up, for its parts that read prompts are not there."""
    frames = np.linspace(0, 1, 2 * 16 * 16 * 3).reshape(1, 2, 16, 16, 3)
    pipe = video()[0]
    monkeypatch.setattr(draw, "load", lambda *_: pipe)
    monkeypatch.setattr(draw, "drawn", lambda *_: ((frames[0] * 255).astype(np.uint8), 0.1, Counts()))
    monkeypatch.setattr("projects.faster_diffusion.propagate.propagate", lambda *_, **__: nullcontext())
    assert main(["a cat", "--model", "x", "--out", str(tmp_path / "cat.gif")]) == 0
    assert Image.open(tmp_path / "cat.gif").n_frames == 2
    assert main(["a cat", "--model", "x", "--out", str(tmp_path / "cat.png")]) == 2
    assert "want .gif" in capsys.readouterr().err
