"""ProCLIP's stages: what a text is embedded as, which parameters move, what is kept, what is measured, which errors."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_model
from torch.nn import functional as F

from common.data.stores import ArrayStore
from common.data.worlds.tiles import TileScenes
from common.errors import UserError
from common.losses.contrastive import clip_loss
from common.models.clip import load_clip
from common.rehearsal.hub import snapshot, write_hub
from projects.proclip.data import CaptionData, PairData, TileCaptions
from projects.proclip.embedder import Embedder, Reading
from projects.proclip.evaluate import Evaluation
from projects.proclip.inherit import Inheritance
from projects.proclip.model import Adapter, Tuned
from projects.proclip.sets import Measures
from projects.proclip.tune import Tuning
from tests.projects.proclip_small import PAIRS, measured, measures, trainer, write_all


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("proclip"))


def pair_data(places, **settings):
    return PairData(PAIRS, places["pairs"], 16, (2,), 8, **settings)


def moved(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_causal_model_is_read_both_ways_and_padding_and_beginnings_do_not_count(tmp_path):
    name = "meta-llama/Llama-2-7b-hf"
    write_hub(tmp_path, [name], layers=2)
    embedder = Embedder(Reading(str(snapshot(tmp_path, name)), before="user: ", after=" end"))
    alone, other = embedder(["a dog runs"]), embedder(["a dog runs", "a much longer text about a dog that does not"])
    torch.testing.assert_close(alone, other[:1], rtol=1e-4, atol=1e-5)
    ids = torch.tensor([[*embedder.first, *embedder._tokens("a dog runs"), *embedder.last]])
    with torch.no_grad():
        causal = embedder.net(input_ids=ids).last_hidden_state
        free = embedder.net(input_ids=ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1]))
    hidden = free.last_hidden_state[:, len(embedder.first) :]
    torch.testing.assert_close(alone, hidden.mean(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(causal[:, 0], free.last_hidden_state[:, 0], atol=1e-4)  # the first token sees the last
    cut = Embedder(Reading(str(snapshot(tmp_path, name)), max_length=2))
    assert len(cut._tokens("a dog runs home")) > 2 and torch.isfinite(cut(["a dog runs home", ""])).all()


def test_embeddings_lie_in_the_order_of_the_captions_and_are_checked(places):
    store = ArrayStore.open(places["pairs"])
    embedder = Embedder(Reading(places["bert"]))
    assert len(store) == 3 * len(PAIRS) and len(set(PAIRS.captions(5))) == 3
    wanted = embedder([PAIRS.captions(5)[2]])[0].numpy()
    np.testing.assert_allclose(store[5 * 3 + 2], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="was produced by"):
        PairData(TileCaptions(TileScenes("train", 24)), places["pairs"], 16)
    with pytest.raises(UserError, match="embeddings of 72 texts, here are 75"):
        PairData(TileCaptions(TileScenes("train", 25, kinds=list(PAIRS.scenes.classes))), places["pairs"], 16)
    with pytest.raises(UserError, match="captions 0 to 2"):
        PairData(PAIRS, places["pairs"], 16, (3,))


def test_a_pair_is_a_picture_with_the_embedding_of_its_own_caption(places):
    data = pair_data(places)
    data.trainer = trainer()
    samples = data.train_dataloader().dataset.samples
    for index in (0, 7):
        found = samples.draw(index, np.random.default_rng(0))
        np.testing.assert_array_equal(found["embedding"].numpy(), data.store[3 * index + 2])
        picture = torch.from_numpy(PAIRS.image(index)[0]).permute(2, 0, 1) / 255
        torch.testing.assert_close(found["image"], picture)


def test_stage_1_moves_the_adapter_alone_towards_clips_text_encoder(places):
    stage = Inheritance(places["clip"], 16, lr=1e-2, warmup_steps=1)
    data = CaptionData(stage.tokenizer, PAIRS, places["pairs"], batch_size=8)
    teacher, adapter = copied(stage.teacher[0]), copied(stage.adapter)
    assert all(name.startswith("adapter.") for name in stage.state_dict())
    batch = torch.utils.data.default_collate([data_sample(data, k) for k in range(8)])
    before = stage.training_step(batch, 0).item() if silent(stage) else None
    stage = Inheritance(places["clip"], 16, lr=1e-2, warmup_steps=1)
    trainer(30).fit(stage, data)
    assert not moved(stage.teacher[0], teacher) and moved(stage.adapter, adapter) == set(adapter)
    assert silent(stage).training_step(batch, 0).item() < 0.5 * before
    texts = [PAIRS.captions(k)[0] for k in range(8)]
    a = stage.adapter(batch["embeddings"][:, 0])
    t = stage.teacher[0].texts(texts)
    torch.testing.assert_close(stage.teacher[0].texts(batch["tokens"][:, 0]), t)
    plain = Inheritance(places["clip"], 16, structure=False)
    plain.adapter.load_state_dict(stage.adapter.state_dict())
    gap = stage.training_step(batch, 0) - silent(plain).training_step(batch, 0)
    by_hand = F.smooth_l1_loss(F.pdist(a), F.pdist(t), reduction="sum")
    torch.testing.assert_close(gap, by_hand, rtol=1e-3, atol=1e-4)


def data_sample(data, index):
    data.trainer = trainer()
    return data.train_dataloader().dataset.samples.draw(index, np.random.default_rng(index))


def silent(stage):
    stage.log = stage.log_dict = lambda *args, **kwargs: None
    return stage


@pytest.mark.parametrize(
    ("settings", "images", "teacher"),
    [({}, True, "follows"), ({"decay": 1.0}, True, "stays"), ({"weight": 0.0}, True, None),
     ({"tune_images": False}, False, None)],
)  # fmt: skip
def test_stage_2_moves_adapter_scale_and_image_encoder(places, settings, images, teacher):
    stage = Tuning(places["clip"], 16, lr=1e-2, image_lr=1e-2, warmup_steps=1, **settings)
    origin = copied(stage.net)
    trainer(4).fit(stage, pair_data(places))
    changed = moved(stage.net, origin)
    assert {"logit_scale", "adapter.text_adaptor.2.weight"} <= changed
    encoder = {name for name in changed if name.startswith("visual.")}
    assert bool(encoder) == images
    if teacher is None:
        assert stage.teacher is None
        return
    before = load_clip(places["clip"]).net.visual.state_dict()
    assert bool(moved(stage.teacher.model, before)) == (teacher == "follows")
    assert not any(p.requires_grad for p in stage.teacher.parameters())
    assert set(stage.exported().state_dict()) == set(origin)  # no teacher in it


def test_with_images_as_before_only_the_contrastive_loss_is_left(places):
    stage = silent(Tuning(places["clip"], 16, weight=0.5))
    data = pair_data(places)
    batch = torch.utils.data.default_collate([data_sample(data, k) for k in range(8)])
    images, texts = stage.net.images(batch["image"]), stage.net.adapter(batch["embedding"])
    wanted = clip_loss(images, texts, stage.net.logit_scale.exp())
    torch.testing.assert_close(stage.training_step(batch, 0), wanted)
    with torch.no_grad():
        stage.net.logit_scale.fill_(9.0)
        stage.net.clamp_scale()
    assert stage.net.logit_scale.exp().item() == pytest.approx(100)
    torch.testing.assert_close(images, load_clip(places["clip"]).images(batch["image"]))


def test_what_is_measured_and_by_what(places, tmp_path):
    own = measured(Evaluation(places["clip"]), tmp_path / "own")
    weights = f"{places['run']}/weights.safetensors"
    tuned = measured(Evaluation(places["clip"], places["tests"], weights, weights, 2), tmp_path / "tuned")
    assert {"zero_shot", "seen", "unseen", "kinds", "pairs_i2t", "more_a_t2i", "more_t2i", "i2t", "t2i_5"} <= set(own)
    assert {"zero_shot_val", "t2i_val"} <= set(own) and "kept" not in own
    assert 0 < tuned["kept"] < 1 and tuned["adapter_params"] == sum(p.numel() for p in Adapter(16, 12).parameters())
    for found in (own, tuned):
        assert all(0 <= found[name] <= 1 for name in found if name != "adapter_params")
        assert found["i2t"] == found["pairs_i2t"]  # parts of a group are not in the mean
        assert found["more_t2i"] == pytest.approx((found["more_a_t2i"] + found["more_b_t2i"]) / 2)
    assert len(list((tmp_path / "tuned").rglob("*.png"))) == 2


def test_an_encoder_that_was_not_tuned_is_kept_whole_and_pixels_are_normalised(places, tmp_path):
    clip = load_clip(places["clip"])
    save_model(Tuned(Adapter(16, 12), clip), str(tmp_path / "same.safetensors"))
    file = str(tmp_path / "same.safetensors")
    stage = Evaluation(places["clip"], places["tests"], file, file)
    seen = []
    stage.clip.net.visual.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = measured(stage, tmp_path)
    assert found["kept"] == pytest.approx(1, abs=1e-5)
    assert seen[0].min() >= -1 and seen[0].max() <= 1 and seen[0].min() < 0  # pixels minus a half, over a half


def test_errors_of_an_evaluation_say_what_to_do(places, tmp_path):
    with pytest.raises(UserError, match="go together"):
        Evaluation(places["clip"], adapter="a.safetensors")
    weights = f"{places['run']}/weights.safetensors"
    stage = Evaluation(places["clip"], places["pairs"], weights)
    with pytest.raises(UserError, match="have the stage embed read"):
        measured(stage, tmp_path)
    save_model(Adapter(16, 12), str(tmp_path / "adapter.safetensors"))
    with pytest.raises(UserError, match="holds no image encoder"):
        Evaluation(places["clip"], places["tests"], weights, str(tmp_path / "adapter.safetensors"))
    with pytest.raises(UserError, match="holds no adapter"):
        Evaluation(places["clip"], places["tests"], f"{places['clip']}/open_clip_model.safetensors")
    stage = Tuning(places["clip"], 20)
    with pytest.raises(UserError, match="embeddings of 20 numbers, these have 16"):
        trainer(1).fit(stage, pair_data(places))
    with pytest.raises(UserError, match="no class 'pink disc'"):
        labelled = measures().labelled["kinds"]
        labelled.seen = ("pink disc",)
        Measures({"kinds": labelled}, measures().captioned)
    assert set(load_file(weights)) >= {"logit_scale"}
