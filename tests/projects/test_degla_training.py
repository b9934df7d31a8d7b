"""DeGLA's finetuning and evaluation on a tiny CLIP: what moves, what is measured, what a resumed run does."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.words import word_tokenizer
from common.data.worlds.tile_words import vocabulary
from common.data.worlds.tiles import TileScenes
from common.models.clip import ClipSizes, build_clip, load_clip
from common.training.weights import load_state
from projects.degla.data import CompositionData, Items, together
from projects.degla.evaluate import Evaluation
from projects.degla.finetune import DeGLA
from projects.degla.losses import Embedded, Weights
from projects.degla.model import decayed, embed, ids
from projects.degla.tiles import TileItems

SIZES = ClipSizes(width=16, layers=1, text_width=16, text_layers=1, dim=16, head=8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a tiny CLIP of random weights."""
    folder = tmp_path_factory.mktemp("degla") / "clip"
    torch.manual_seed(0)
    build_clip(SIZES, word_tokenizer(vocabulary(), length=32, ends=True)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def batch():
    items = Items(TileItems("train", 6), 16)
    return together([items[k] for k in range(6)])


def module(clip, **settings):
    found = DeGLA(clip, **settings)
    found.log = found.log_dict = lambda *args, **kwargs: None
    return found


def graded(part):
    return {name for name, p in part.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_student_and_teacher_begin_alike_and_only_the_student_learns(clip, batch):
    found = module(clip)
    texts = ids(found.clip, batch["texts"])
    student, teacher = embed(found.clip, batch["image"], texts), found.told(batch["image"], texts)
    torch.testing.assert_close(student.every, teacher.every)
    terms = found.terms(student, teacher)
    assert set(terms) == {"base", "igc", "tgc", "distillation"} and terms["distillation"] < 1e-6
    found.training_step(batch, 0).backward()
    assert graded(found.clip) == {name for name, _ in found.clip.named_parameters()}
    assert not graded(found.teacher) and not any(p.requires_grad for p in found.teacher.parameters())


def test_arms_have_the_losses_that_they_name(clip, batch):
    off = dict.fromkeys(("igc", "tgc", "distillation"), 0.0)
    for weights, expected in (
        (Weights(**off), {"base"}),
        (Weights(igc=0.0, tgc=0.0), {"base", "distillation"}),
        (Weights(distillation=0.0), {"base", "igc", "tgc"}),
        (Weights(**off, ranking=0.2, intra_modal=0.2), {"base", "ranking", "intra_modal"}),
    ):
        found = module(clip, weights=weights)
        student = embed(found.clip, batch["image"], ids(found.clip, batch["texts"]))
        assert set(found.terms(student, student)) == expected
        assert (found.teacher is None) == (not expected & {"tgc", "distillation"})


def test_thresholds_of_the_ranking_follow_the_batch_before(clip, batch):
    found = module(clip, weights=Weights(0.0, 0.0, 0.0, ranking=1.0))
    student = embed(found.clip, batch["image"], ids(found.clip, batch["texts"]))
    found.terms(student, None)
    gaps = (student.image * student.text).sum(-1)[:, None] - (student.image[:, None] * student.negatives).sum(-1)
    torch.testing.assert_close(found.threshold, (found.clip.scale * gaps).mean(0).clamp(0, 10).detach())


def test_matrices_alone_decay(clip):
    net = load_clip(clip)
    matrices, others = decayed(net, 0.1)
    assert matrices["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert {p.ndim for p in others["params"]} == {0, 1} and min(p.ndim for p in matrices["params"]) == 2
    assert len(matrices["params"]) + len(others["params"]) == len(list(net.parameters()))


def command(clip, folder, *words):
    train = {"class_path": "projects.degla.tiles.TileItems", "init_args": {"split": "train", "size": 16}}
    given = ["fit", "--model.clip", clip, "--data.train", json.dumps(train), "--data.image_size", "16"]
    given += ["--data.batch_size", "8", "--data.crop", "false", "--trainer.max_steps", "3", "--checkpoint_every", "1"]
    return [*given, "--threads", "1", "--trainer.accelerator", "cpu", "--run_dir", str(folder), *words]


def test_a_stage_follows_its_student_bounds_the_scale_and_resumes_with_equal_weights(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    words = ["--model.lr", "0.02", "--model.warmup_steps", "0", "--model.ema", "0.5", "--model.weights.ranking", "0.1"]
    big = load_clip(clip)
    big.net.logit_scale.data.fill_(math.log(99.99))
    big.save_pretrained(tmp_path / "big")
    main(DeGLA, CompositionData, command(str(tmp_path / "big"), tmp_path / "run", *words), one_seed)
    weights = load_state(tmp_path / "run/weights.safetensors")
    assert set(weights) == set(big.net.state_dict()) and weights["logit_scale"] <= math.log(100) + 1e-6
    state = torch.load(tmp_path / "run/checkpoints/step=3.ckpt", weights_only=True)["state_dict"]
    assert state["threshold"].shape == (4,)
    name = "net.visual.proj"
    start, slow, fast = big.state_dict()[name], state[f"teacher.model.{name}"], state[f"clip.{name}"]
    assert 0 < (slow - fast).norm() < (start - fast).norm()
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    for file in ("done.json", "weights.safetensors", "checkpoints/step=3.ckpt"):
        (again / file).unlink()
    main(DeGLA, CompositionData, command(str(tmp_path / "big"), again, *words), one_seed)
    for name, value in load_state(again / "weights.safetensors").items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize(("figure", "low", "high"), [("perfect", 100, 100), ("wrong", 0, 0), ("constant", 50, 50)])
def test_figures_are_perfect_wrong_and_chance_where_they_should_be(clip, figure, low, high, tmp_path, monkeypatch):
    """A metric's sanity: captions that all score above their foils, below them, and the same for all texts."""
    found = Evaluation(clip, means={"swap": ["a", "b"], "again": ["swap"]}, shown=1)
    data = CompositionData({}, image_size=16, batch_size=4)
    data.benches = {name: TileItems("test", 8, [f"swap_{what}"]) for name, what in (("a", "colour"), ("b", "shape"))}
    data.sets = {"tiles": TileScenes("test", 12, objects=(1, 1))}
    said: dict[str, float] = {}
    found.log_dict = lambda values: said.update({k: float(v) for k, v in values.items()})
    found.log = lambda name, value: said.update({name: float(value)})
    found.run_dir = tmp_path
    trainer = type("Trainer", (), {"datamodule": data, "global_rank": 0, "world_size": 1, "is_global_zero": True})()
    found._trainer, data.trainer = None, trainer
    monkeypatch.setattr(Evaluation, "trainer", trainer)

    def vectors(clip, image, texts):
        true = F.normalize(torch.randn(len(image), 16), dim=-1)
        sign = {"perfect": -1.0, "wrong": 1.0, "constant": 0.5}[figure]
        text = true if figure != "wrong" else -true
        text = 0.5 * true if figure == "constant" else text
        return Embedded(true, text, sign * true[:, None])

    monkeypatch.setattr("projects.degla.evaluate.embed", vectors)
    found.on_test_start()
    for k, loader in enumerate(data.test_dataloader()):
        for number, part in enumerate(loader):
            with torch.autocast("cpu", torch.bfloat16):  # as mixed precision: ties must stay ties
                found.test_step(part, number, k)
    found.on_test_epoch_end()
    margin = float(found.clip.scale) * {"perfect": 2, "wrong": -2, "constant": 0}[figure]  # of the logits
    assert said["test/a_share"] == pytest.approx(100 / (1 + math.exp(-margin)), abs=1e-3)
    assert low <= said["test/swap"] <= high and low <= said["test/again"] <= high
    assert said["test/params"] == sum(p.numel() for p in found.clip.net.parameters())
    assert 0 <= said["test/tiles"] <= 100
    [picture] = (tmp_path / "pictures").glob("000.png")
    assert Image.open(picture).width == 640
