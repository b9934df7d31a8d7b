"""CLIP at any size: open_clip reads what is written; prompts, embeddings and class vectors; training; errors."""

import json

import open_clip
import pytest
import torch
from torch.nn import functional as F

from common.data.words import word_tokenizer
from common.data.worlds.tile_words import TEMPLATES, vocabulary
from common.data.worlds.tiles import TileScenes
from common.errors import UserError
from common.foundations.clip import CONTEXT, ClipTraining, TilePictures
from common.models.clip import ClipSizes, build_clip, load_clip, prompted_image, prompted_text
from common.rehearsal.image_hubs import write_open_clip

SIZES = ClipSizes(width=32, layers=3, text_width=32, text_layers=3, dim=16)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_clip(SIZES, word_tokenizer(vocabulary(), length=CONTEXT, ends=True)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_folder_gives_back_the_same_clip_and_open_clip_reads_it(clip, images, tmp_path):
    clip.save_pretrained(tmp_path)
    again = load_clip(str(tmp_path)).eval()
    texts = ["a red disc", "a blue bar left of a red disc"]
    assert torch.equal(again.images(images), clip.images(images)) and torch.equal(again.texts(texts), clip.texts(texts))
    assert again.image_size == 16 and again.dim == 16 and again.scale == clip.scale
    net, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(texts)
    with torch.no_grad():
        assert torch.allclose(F.normalize(net.eval().encode_text(ids), dim=-1), clip.texts(texts), atol=1e-6)
    again.save_pretrained(tmp_path / "twice")
    assert torch.equal(load_clip(str(tmp_path / "twice")).texts(texts), clip.texts(texts))


def test_padding_says_nothing_and_order_matters(clip):
    ids = clip.tokens(["a red disc", "a blue bar left of a red disc"])
    whole = F.normalize(clip.net.encode_text(ids), dim=-1)
    assert torch.allclose(clip.texts(ids), whole, atol=1e-6)
    changed = torch.where(ids == 0, 7, ids)
    assert torch.allclose(clip.texts(changed), whole, atol=1e-6)
    assert not torch.allclose(
        clip.texts(["a red disc left of a blue bar"]), clip.texts(["a blue disc left of a red bar"])
    )


def test_no_prompts_and_the_words_own_embeddings_are_plain_clip(clip, images):
    net = clip.net
    empty = torch.zeros(1, 0, 32)
    assert torch.allclose(
        prompted_image(net.visual, clip.normalised(images), empty), net.encode_image(clip.normalised(images))
    )
    ids = clip.tokens(["a red disc", "a blue bar"])
    assert torch.allclose(prompted_text(net, ids, net.token_embedding(ids)), net.encode_text(ids))


def test_prompts_of_every_depth_are_read_and_get_gradients(clip, images):
    prompts = torch.randn(3, 2, 32, requires_grad=True)
    prompted_image(clip.net.visual, clip.normalised(images), prompts).sum().backward()
    assert (prompts.grad.abs().sum((1, 2)) > 0).all()
    ids = clip.tokens(["a red disc left of a blue bar"])
    deep = torch.randn(2, 2, 32, requires_grad=True)
    embedded = clip.net.token_embedding(ids)
    prompted_text(clip.net, ids, embedded, deep).sum().backward()
    assert (deep.grad.abs().sum((1, 2)) > 0).all()
    with torch.no_grad():  # what stood where the prompts come is not read after the first block
        assert prompted_text(clip.net, ids, embedded, deep).shape == (1, 16)


def test_class_vectors_are_means_over_templates(clip):
    vectors = clip.class_vectors(["red disc", "blue bar"], TEMPLATES)
    texts = clip.texts([template.replace("{}", "red disc") for template in TEMPLATES])
    assert torch.allclose(vectors[0], F.normalize(texts.mean(0), dim=-1)) and torch.allclose(
        vectors.norm(dim=1), torch.ones(2)
    )
    assert clip.class_vectors(["{a} odd name"], ["a {}."]).shape == (1, 16)


def test_the_scale_is_bounded(clip):
    saved = clip.net.logit_scale.item()
    clip.net.logit_scale.data.fill_(20.0)
    assert clip.scale == 100
    clip.net.logit_scale.data.fill_(saved)


def test_a_few_steps_learn(tmp_path):
    torch.manual_seed(0)
    source = TileScenes("train", 128, objects=(1, 1), kinds=["red disc", "blue bar", "green ring", "white cross"])
    data = TilePictures(source, source, image_size=16, batch_size=32, augment=False)
    model = ClipTraining(data.tokenizer, SIZES)
    model.log = lambda *args, **settings: None
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    batch = next(iter(data.ordered("train", 32)))
    losses = []
    for _ in range(15):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.08


def test_a_published_name_loads_with_its_tokenizer_and_normalisation(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    write_open_clip(tmp_path, "ViT-B-32", "laion2b_s34b_b79k", narrow=True, layers=1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    clip = load_clip("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert clip.tokens(["a cat"]).shape == (1, 77) and clip.image_size == 224
    assert clip.mean.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert clip.texts(["a cat"]).shape == (1, clip.dim)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ViT-B-33:openai", "unknown open_clip model 'ViT-B-33'"),
        ("ViT-B-32:laion2b", "unknown weights of open_clip's ViT-B-32 'laion2b'"),
        ("ViT-B-32", "name and tag"),
        ("/nowhere/clip", "no CLIP at '/nowhere/clip'"),
    ],
)
def test_bad_sources(source, said):
    with pytest.raises(UserError, match=said):
        load_clip(source)


def test_a_folder_that_is_no_clip_or_is_damaged(clip, tmp_path):
    with pytest.raises(UserError, match="is no CLIP: there is no open_clip_config.json"):
        load_clip(str(tmp_path))
    clip.save_pretrained(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="holds no CLIP that can be read"):
        load_clip(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(UserError, match="holds no CLIP that can be read"):
        load_clip(str(tmp_path))
