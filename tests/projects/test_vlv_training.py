"""VLV's stages: what learns and what does not, where gradients go through, what is handed on."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.images import IMAGENET_MEAN, IMAGENET_STD, PictureData
from common.data.worlds.glyph_scenes import GlyphScenes
from common.errors import UserError
from common.evaluators.frechet import Inception, frechet_distance
from common.training.runs import saved_pictures
from projects.vlv.data import CaptionData, JudgedPictures
from projects.vlv.describe import Description
from projects.vlv.evaluate import Evaluation
from projects.vlv.measures import drawn_slots, mean_slots
from projects.vlv.model import VLVEncoder
from projects.vlv.reconstruct import Reconstruction
from projects.vlv.redraw import Redrawing
from tests.projects.vlv_small import QUERIES, florence, images, write_foundations


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    return write_foundations(tmp_path_factory.mktemp("foundations"))


def trainer(**settings: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return L.Trainer(
        **quiet, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, **settings
    )


def scenes(**settings: Any) -> PictureData:
    world = GlyphScenes("train", 16)
    return PictureData(world, world, world, image_size=8, batch_size=8, augment=False, **settings)


def judged() -> JudgedPictures:
    return JudgedPictures(None, GlyphScenes("val", 8), GlyphScenes("test", 16), image_size=8, batch_size=8)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def reached(module: nn.Module) -> set[str]:
    """Parameters with a gradient that is not zero."""
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("train_vision", [False, True])
def test_stage_1_trains_the_encoder_through_a_model_that_stays(models, train_vision):
    torch.manual_seed(0)
    module = Reconstruction(florence(train_vision), models[0], QUERIES)
    loss = module.t2i.denoising_loss(images(4), module.t2i.encode_embeddings(module.encoder(images(4))))
    loss.backward()
    assert not reached(module.t2i) and not any(p.requires_grad for p in module.t2i.parameters())
    found = reached(module.encoder)
    assert {"queries", "project.0.weight", "project.2.bias"} <= found
    assert any(name.startswith("florence.language_model.encoder.layers") for name in found)
    assert any(name.startswith("florence.language_model.decoder.layers") for name in found)
    vision = ("florence.vision_tower.", "florence.multi_modal_projector.")
    assert any(name.startswith(vision) for name in found) is train_vision
    assert module.encoder.florence.vision_tower.training is train_vision
    assert module.encoder.florence.language_model.training and not module.t2i.training


def test_an_optimiser_step_of_stage_1_leaves_the_diffusion_model_bit_for_bit(models):
    torch.manual_seed(0)
    module = Reconstruction(florence(), models[0], QUERIES, lr=1e-3)
    frozen, encoder = snapshot(module.t2i), snapshot(module.encoder)
    trainer(max_steps=2).fit(module, scenes())
    assert not changed(module.t2i, frozen)
    assert "queries" in changed(module.encoder, encoder)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert not any(name.startswith("t2i.") for name in checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])


PARTS = {"adapter": {"adapter"}, "language_model": {"adapter", "language_model"}}


@pytest.mark.parametrize("unfrozen", ["adapter", "language_model", "encoder"])
def test_stage_2_trains_what_is_unfrozen(models, unfrozen):
    torch.manual_seed(0)
    module = Description(florence(), *models, queries=QUERIES, unfrozen=unfrozen, lr=1e-2, max_tokens=8)
    before = snapshot(module.net)
    data = CaptionData(GlyphScenes("train", 16), image_size=8, batch_size=8)
    trainer(max_steps=2).fit(module, data)
    found = {name.split(".")[0] for name in changed(module.net, before)}
    assert found == PARTS.get(unfrozen, {"adapter", "language_model", "encoder"})


def test_a_process_with_more_tokens_counts_more(models, monkeypatch):
    """The mean of two processes' losses is that of one process with all pictures, however long their captions are."""
    torch.manual_seed(0)
    module = Description(florence(), *models, QUERIES, max_tokens=8)
    module.log = lambda *_, **__: None
    captions, pictures = ["red block northwest blue slash southeast", "red block", "red", "blue slash"], images(4)

    def loss(part: slice) -> Tensor:
        return module.training_step({"image": pictures[part], "caption": captions[part]}, 0)

    whole = loss(slice(4))
    total = sum(len(text.split()) + 1 for text in captions)  # with their ends
    monkeypatch.setattr("projects.vlv.describe.mean_over_processes", lambda tokens: torch.tensor(total / 2))
    torch.testing.assert_close((loss(slice(2)) + loss(slice(2, 4))) / 2, whole)


def test_stage_2_starts_from_stage_1(models, tmp_path):
    torch.manual_seed(0)
    first = Reconstruction(florence(), models[0], QUERIES).encoder
    save_model(first, str(tmp_path / "weights.safetensors"))
    torch.manual_seed(1)
    module = Description(florence(), *models, QUERIES, encoder_weights=str(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(module.net.encoder(images(2)), first(images(2)))
    with pytest.raises(UserError, match="does not fit VLVEncoder"):
        Description(florence(), *models, QUERIES + 1, encoder_weights=str(tmp_path / "weights.safetensors"))
    with pytest.raises(UserError, match="model.queries is 9: the text encoder reads 1 to 8 embeddings"):
        Description(florence(), *models, queries=9)


def test_pairs_are_a_part_of_the_pictures_that_the_seed_draws():
    def drawn(seed: int, pairs: int | None) -> set[int]:
        data = CaptionData(GlyphScenes("train", 32), image_size=8, batch_size=4, pairs=pairs, seed=seed)
        data.trainer = trainer(max_epochs=1)
        return {int(k) for batch in data.train_dataloader() for k in batch["index"]}

    assert drawn(0, 8) == drawn(0, 8) != drawn(1, 8)
    assert len(drawn(0, 8)) == 8 and len(drawn(0, None)) == 32
    with pytest.raises(UserError, match="data.pairs is 33"):
        drawn(0, 33)


def test_stage_1_can_be_taught(models):
    """A few steps on two pictures lower the loss at fixed noise: gradients through T and U-Net point the right way."""
    torch.manual_seed(0)
    module = Reconstruction(florence(), models[0], QUERIES)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 3e-3)
    pictures, steps = images(2), 30

    def loss() -> Tensor:
        context = module.t2i.encode_embeddings(module.encoder(pictures))
        return module.t2i.denoising_loss(pictures, context, torch.Generator().manual_seed(0))

    first = loss().item()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.99 * first


def save(module: nn.Module, file: Path) -> str:
    save_model(module, str(file))
    return str(file)


def test_an_evaluation_marks_words_and_draws(models, tmp_path):
    torch.manual_seed(0)
    described = Description(florence(), *models, QUERIES)
    weights = save(described.exported(), tmp_path / "captioner.safetensors")
    settings = {"steps": 2, "beams": 1, "max_tokens": 8, "pictures": 2}
    module = Evaluation(florence(), *models, QUERIES, weights, **settings)
    module.run_dir = tmp_path
    trainer().test(module, judged(), verbose=False)
    found = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    names = {"slots", "drawn_slots", "drawn_mse", "val_slots", "val_drawn_slots", "params"}
    assert set(found) == {f"test/{name}" for name in names}
    assert found["test/params"] == sum(p.numel() for p in described.net.parameters())
    assert [p["reference"] for p in saved_pictures(tmp_path)] == [True, False, True, False]
    own = Evaluation(florence(), *models, QUERIES, captions="data", **settings)
    own.run_dir = tmp_path
    trainer().test(own, judged(), verbose=False)
    assert own.trainer.callback_metrics["test/slots"] == own.trainer.callback_metrics["test/val_slots"] == 1
    with pytest.raises(UserError, match="nothing to judge"):
        Evaluation(florence(), *models, QUERIES)


def test_a_redrawing_compares_with_the_originals(models, tmp_path):
    encoder = save(Reconstruction(florence(), models[0], QUERIES).exported(), tmp_path / "encoder.safetensors")
    module = Redrawing(florence(), models[0], encoder, QUERIES, steps=2, solver="ddim", pictures=2)
    assert isinstance(module.encoder, VLVEncoder)
    module.run_dir = tmp_path
    trainer().test(module, judged(), verbose=False)
    names = ("loss_own", "loss_shuffled", "redrawn_slots", "redrawn_mse")
    assert set(module.trainer.callback_metrics) == {f"test/{split}{n}" for n in names for split in ("", "val_")}
    assert len(saved_pictures(tmp_path)) == 4


def test_what_a_captioner_says_is_all_that_the_drawer_is_told(monkeypatch):
    """The whole caption, up to the limit that is given, not to the pipeline's own; what is cut is counted."""
    calls = []

    class Pipeline:
        def __call__(self, captions: list[str], **settings: Any) -> SimpleNamespace:
            calls.append((captions, settings))
            return SimpleNamespace(images=torch.zeros(len(captions), 3, 16, 16))

        def to(self, device: Any) -> None:
            pass

        def tokenizer_3(self, captions: list[str]) -> SimpleNamespace:
            return SimpleNamespace(input_ids=[text.split() for text in captions])

    monkeypatch.setattr("projects.vlv.evaluate.load_pipeline", lambda hub: Pipeline())
    module = Evaluation(florence(), "-", "-", captions="data", drawer="sd3.5", drawer_tokens=300, size=16)
    module.draw(["a " * 299, "b " * 301], 2.0, 0)
    [(captions, settings)] = calls
    assert settings["max_sequence_length"] == 300 and captions[1] == "b " * 301
    assert module.cut(captions) == 0.5


def test_words_are_marked_in_their_places():
    truth = "red block northwest blue slash southeast"
    assert mean_slots([truth, "red", "blue slash southeast red block northwest"], [truth] * 3) == pytest.approx(
        (1 + 1 / 6 + 0) / 3
    )


def test_sanity_of_the_marks():
    """Perfect answers, answers that are the same for all, other pictures' answers, and what must not be seen."""
    scenes = [GlyphScenes("test", 300)[k] for k in range(300)]
    truths = [scene.caption for scene in scenes]
    pictures = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255 for scene in scenes])
    assert mean_slots(truths, truths) == 1 and drawn_slots(pictures, truths) > 0.995
    words = [Counter(text.split()[k] for text in truths).most_common(1)[0][0] for k in range(6)]
    constant = mean_slots([" ".join(words)] * 300, truths)  # the floor
    assert 0.28 < constant < 0.38
    mean = drawn_slots(pictures.mean(0, keepdim=True).expand_as(pictures), truths)
    shuffled = drawn_slots(pictures.roll(1, 0), truths)
    assert mean < constant + 0.05 and 0.2 < shuffled < constant + 0.05
    assert drawn_slots(torch.rand(300, 3, 8, 8, generator=torch.Generator().manual_seed(0)), truths) < constant + 0.05
    noisy = pictures + 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    assert (
        drawn_slots(noisy, truths) > 0.98 and drawn_slots(0.8 * pictures, truths) > 0.98
    )  # noise and light are no words
    errors = {
        name: F.mse_loss(other, pictures).item()
        for name, other in {
            "mean": pictures.mean(0, keepdim=True).expand_as(pictures),
            "other": pictures.roll(1, 0),
        }.items()
    }
    assert 0.05 < errors["mean"] < errors["other"] < 0.3  # what `drawn_mse` and `redrawn_mse` lie below
    assert mean_slots([f"  {text}  and more words" for text in truths], truths) == 1
    assert mean_slots([""] * 300, truths) == 0


def test_florence_sees_pictures_as_it_was_trained_to(models):
    """What DaViT really receives of black, of white, and of a larger picture than it looks at."""
    seen = []
    encoder = Reconstruction(florence(), models[0], QUERIES).encoder
    encoder.florence.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((*args, *kwargs.values())[0]), with_kwargs=True
    )
    pictures = torch.stack([torch.zeros(3, 20, 20), torch.ones(3, 20, 20)])
    encoder(pictures)
    [pixels] = seen
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    assert pixels.shape == (2, 3, 8, 8)
    torch.testing.assert_close(pixels.mean((2, 3)), torch.stack([-mean / std, (1 - mean) / std]))
    assert pixels[1].std((1, 2)).max() < 1e-5


def test_inception_gets_whole_pictures_from_0_to_1(monkeypatch, tmp_path, models):
    """What the FID's network receives: originals and drawn pictures, both in [0, 1] and as many."""
    seen: dict[bool, list[Tensor]] = {True: [], False: []}

    class Spy(nn.Module):
        def update(self, pictures: Tensor, real: bool) -> None:
            seen[real].append(pictures)

        def compute(self) -> Tensor:
            return torch.zeros(())

    monkeypatch.setattr("projects.vlv.evaluate.frechet_distance", lambda inception: Spy())
    drawn = torch.rand(8, 3, 16, 16)
    module = Evaluation(florence(), *models, QUERIES, captions="data", inception=Inception(weights="x"), steps=2)
    monkeypatch.setattr(module, "draw", lambda captions, guidance, seed: drawn[: len(captions)])
    module.run_dir = tmp_path
    trainer().test(module, scenes(), verbose=False)
    assert sum(map(len, seen[True])) == sum(map(len, seen[False])) == 16
    for pictures in (torch.cat(seen[True]), torch.cat(seen[False])):
        assert pictures.dtype == torch.float32 and pictures.min() >= 0 and 0.5 < pictures.max() <= 1


def test_inception_itself_receives_bytes_from_0_to_255(monkeypatch):
    received = []

    class Network(nn.Module):
        def __init__(self, *args: Any, **settings: Any):
            super().__init__()

        def forward(self, pictures: Tensor) -> Tensor:
            received.append(pictures)
            return torch.rand(len(pictures), 64)

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Network)
    monkeypatch.setattr("common.evaluators.frechet.load_state", lambda path: {})
    metric = frechet_distance(Inception(weights="x", features=64))
    for real in (True, False):
        metric.update(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]), real=real)
    for pictures in received[-2:]:
        assert pictures.dtype == torch.uint8 and pictures[0].max() == 0 and pictures[1].min() == 255
