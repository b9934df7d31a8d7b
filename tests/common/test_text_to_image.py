"""Text-to-image diffusion: closed forms, guidance, gradients through frozen parts, folders; the world of glyphs."""

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from PIL import Image
from torch.nn import functional as F

from common.data.readers.coco_captions import CocoCaptions
from common.data.words import word_tokenizer
from common.data.worlds.glyph_scenes import (
    BACKGROUND,
    HELD_OUT,
    KINDS,
    GlyphFeatures,
    GlyphScenes,
    caption,
    draw,
    layouts,
    matching_slots,
    named_objects,
    objects_right,
    pair,
    read_slots,
)
from common.errors import UserError
from common.foundations.text_to_image import CaptionedPictures, DiffusionTraining, build_text_encoder, build_unet
from common.models.text_to_image import (
    TextToImage,
    encode_embeddings,
    guided,
    load_text_encoder,
    load_text_to_image,
)
from common.rehearsal.datasets import make_coco

CAPTIONS = [caption(layout) for layout in layouts()[::11]]


def model(vae: AutoencoderKL | None = None, prediction: str = "epsilon") -> TextToImage:
    torch.manual_seed(0)
    tokenizer = word_tokenizer(CAPTIONS, length=8, ends=True)
    scheduler = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, prediction_type=prediction)
    return TextToImage(
        tokenizer, build_text_encoder(tokenizer, 16, 1), build_unet(8, (8, 8), 16), scheduler, vae
    ).eval()


def tiny_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=3, layers_per_block=1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_embeddings_in_the_place_of_words_give_what_the_words_give():
    t2i = model()
    ids = t2i.tokenizer(CAPTIONS[:3], padding="max_length", return_tensors="pt").input_ids
    words = t2i.text_encoder.get_input_embeddings()(ids)
    torch.testing.assert_close(t2i.encode_embeddings(words), t2i.encode_text(CAPTIONS[:3]))
    torch.testing.assert_close(t2i.encode_text(CAPTIONS[:3]), t2i.encode_text(CAPTIONS[:3]))  # the hook is gone
    changed = words.clone()
    changed[:, 4:] = torch.randn(3, 4, 16)
    torch.testing.assert_close(t2i.encode_embeddings(changed)[:, :4], t2i.encode_embeddings(words)[:, :4])  # causal


def test_a_failing_text_encoder_keeps_no_hook():
    t2i = model()
    with pytest.raises(ValueError, match="max_position_embeddings"):
        encode_embeddings(t2i.text_encoder, torch.zeros(1, 9, 16))
    assert not t2i.text_encoder.get_input_embeddings()._forward_hooks


def test_gradients_flow_through_frozen_parts():
    t2i = model().requires_grad_(False)
    z = torch.randn(2, 4, 16, requires_grad=True)
    t2i.denoising_loss(torch.rand(2, 3, 8, 8), t2i.encode_embeddings(z)).backward()
    assert z.grad is not None and z.grad.abs().sum((0, 2)).gt(0).all()  # every embedding's
    assert all(p.grad is None for p in t2i.parameters())


@pytest.mark.parametrize(("kind", "loss"), [("l2", F.mse_loss), ("l1", F.l1_loss)])
def test_the_loss_is_that_of_the_noise(kind, loss):
    t2i = model()
    images, context = torch.rand(2, 3, 8, 8), t2i.encode_text(CAPTIONS[:2])
    found = t2i.denoising_loss(images, context, generator(), kind)
    draws = generator()
    t = torch.randint(1000, (2,), generator=draws)
    noise = torch.randn(2, 3, 8, 8, generator=draws)
    signal = t2i.scheduler.alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
    noised = signal * (2 * images - 1) + (1 - signal**2).sqrt() * noise
    torch.testing.assert_close(found, loss(t2i.unet(noised, t, context).sample, noise))


def test_a_model_of_velocity_is_asked_for_velocity():
    t2i, images = model(prediction="v_prediction"), torch.rand(2, 3, 8, 8)
    context = t2i.encode_text(CAPTIONS[:2])
    found, other = (m.denoising_loss(images, context, generator()) for m in (t2i, model()))
    assert not torch.isclose(found, other)


def test_the_schedule_goes_from_the_picture_to_noise():
    scheduler = model().scheduler
    z, noise, t = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8), torch.tensor([0])
    for signal, expected in ((1.0, z), (0.0, noise)):
        scheduler.alphas_cumprod = torch.tensor([signal])
        torch.testing.assert_close(scheduler.add_noise(z, noise, t), expected)


def test_guidance():
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(guided(a, b, 1.0), a)
    torch.testing.assert_close(guided(a, b, 0.0), b)
    torch.testing.assert_close(guided(a, b, 2.0), 2 * a - b)


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_samples_follow_from_the_generator_and_the_context(solver):
    t2i = model()
    context = t2i.encode_text(CAPTIONS[:2])
    first, again = (t2i.sample(context, 3, 2.0, solver, generator=generator()) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (2, 3, 8, 8) and first.min() >= 0 and first.max() <= 1
    plain = t2i.sample(context, 3, 1.0, solver, generator=generator())
    assert not torch.allclose(first, plain)
    short = t2i.sample(t2i.encode_embeddings(torch.randn(2, 3, 16)), 2, 2.0, solver)  # fewer embeddings than words
    assert short.shape == (2, 3, 8, 8)


def test_an_autoencoder_s_latents_are_a_scaled_sample_of_its_posterior():
    t2i, images = model(tiny_vae()), torch.rand(2, 3, 8, 8)
    torch.manual_seed(1)
    found = t2i.latents(images)
    posterior = t2i.vae.encode(2 * images - 1).latent_dist
    torch.manual_seed(1)
    torch.testing.assert_close(found, posterior.sample() * t2i.vae.config.scaling_factor)
    assert not torch.equal(t2i.latents(images), found)  # another sample
    assert t2i.decode(found).shape == images.shape
    assert t2i.sample(t2i.encode_text(CAPTIONS[:1]), 2, size=8).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("with_vae", [False, True])
def test_a_folder_holds_the_whole_model(with_vae, tmp_path):
    t2i = model(tiny_vae() if with_vae else None)
    t2i.save_pretrained(tmp_path)
    back = load_text_to_image(tmp_path).eval()
    assert (back.vae is not None) is with_vae
    context = t2i.encode_text(CAPTIONS[:2])
    torch.testing.assert_close(back.encode_text(CAPTIONS[:2]), context)
    arguments = (context, 2, 2.0, "ddim", 8)
    torch.testing.assert_close(back.sample(*arguments, generator()), t2i.sample(*arguments, generator()))
    fresh = load_text_encoder(tmp_path, pretrained=False)
    assert fresh.config.hidden_size == 16 and fresh.state_dict().keys() == t2i.text_encoder.state_dict().keys()


def test_a_missing_model_is_said():
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        load_text_to_image("no/such/folder/here")


def test_training_reads_captions_and_drops_some(monkeypatch):
    data = CaptionedPictures(GlyphScenes("train", 40), image_size=8, augment=False)
    module = DiffusionTraining(data.tokenizer, 8, (8, 8), width=16, layers=1, drop=0.5)
    module.log = lambda *_, **__: None
    seen: list[str] = []
    encode = module.net.encode_text
    monkeypatch.setattr(module.net, "encode_text", lambda texts: seen.extend(texts) or encode(texts))
    torch.manual_seed(0)
    module.training_step(
        {"image": torch.rand(40, 3, 8, 8), "caption": [data.source("train")[k].caption for k in range(40)]}, 0
    )
    assert 10 < seen.count("") < 30 and data.tokenizer.model_max_length == 8
    assert data.tokenizer.unk_token_id not in data.tokenizer(seen[0] or CAPTIONS[0]).input_ids


def test_a_scene_is_read_back_from_its_picture_in_spite_of_noise():
    world = GlyphScenes("test", 60)
    pictures = [world[k] for k in range(len(world))]
    images = torch.stack([torch.from_numpy(p.image).permute(2, 0, 1).float() / 255 for p in pictures])
    assert [" ".join(words) for words in read_slots(images)] == [p.caption for p in pictures]
    clean = torch.from_numpy(np.stack([draw(layout) for layout in layouts()])).permute(0, 3, 1, 2).float() / 255
    assert [" ".join(words) for words in read_slots(clean)] == [caption(layout) for layout in layouts()]
    assert len({caption(layout) for layout in layouts()}) == 2400


def test_scenes_are_the_same_every_time_and_splits_share_no_layout():
    a, b = GlyphScenes("train", 3000), GlyphScenes("train", 10)
    assert all(np.array_equal(a[k].image, b[k].image) for k in range(10))
    assert a[0].caption == a[1950].caption and not np.array_equal(a[0].image, a[1950].image)
    said = {split: {GlyphScenes(split, size)[k].caption for k in range(size)} for split, size in HELD_OUT.items()}
    train = {a[k].caption for k in range(1950)}
    assert not said["val"] & said["test"] and not train & (said["val"] | said["test"])
    assert len(train) + len(said["val"]) + len(said["test"]) == 2400
    with pytest.raises(UserError, match="unknown split 'tests'"):
        GlyphScenes("tests", 3)


def test_words_are_marked_in_their_places():
    truth = "red block northwest blue slash southeast"
    assert matching_slots(truth, truth) == 1 and matching_slots("", truth) == 0
    assert matching_slots("red bar northwest", truth) == pytest.approx(2 / 6)
    assert matching_slots(f"{truth} and more", truth) == 1


def pictures_of(*given: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """[B, 3, 8, 8] of layouts, with as many objects as they list."""
    return torch.stack([torch.from_numpy(draw(layout)).permute(2, 0, 1).float() / 255 for layout in given])


def test_captions_that_leave_places_open_name_held_out_pairs_in_their_own_split_alone():
    sizes = {"train": 3000, **HELD_OUT}
    worlds = {split: GlyphScenes(split, size, places_named=False) for split, size in sizes.items()}
    said = {split: {world[k].caption for k in range(len(world))} for split, world in worlds.items()}
    assert all(len(text.split()) == 4 for texts in said.values() for text in texts)
    pairs = {split: {frozenset(Counter(named_objects(text)).items()) for text in said[split]} for split in said}
    assert [len(pairs[split]) for split in ("train", "val", "test")] == [171, 13, 26]
    assert not pairs["val"] & pairs["test"] and not pairs["train"] & (pairs["val"] | pairs["test"])
    by_caption = Counter(caption(layout, places=False) for layout in layouts())
    assert set(by_caption.values()) == {6} and len(by_caption) == len(KINDS) ** 2


def test_a_share_of_the_training_captions_names_another_object():
    clean, noisy = (GlyphScenes("train", 2000, 0, False, share) for share in (0.0, 0.25))
    named = [[Counter(named_objects(w[k].caption)) for k in range(len(w))] for w in (clean, noisy)]
    wrong = [(a - b).total() for a, b in zip(*named, strict=True)]
    assert set(wrong) == {0, 1} and 0.22 < np.mean(wrong) < 0.28  # never both
    assert all(np.array_equal(clean[k].image, noisy[k].image) for k in range(20))
    allowed = {pair(layouts()[k]) for k in clean.layouts}
    kinds = {kind: number for number, kind in enumerate(KINDS)}
    assert all(tuple(sorted(kinds[o] for o in objects.elements())) in allowed for objects in named[1])
    held_out = GlyphScenes("test", 50, 0, False, 0.25)
    assert all(held_out[k].caption == GlyphScenes("test", 50, 0, False)[k].caption for k in range(50))
    placed = GlyphScenes("train", 200, caption_noise=1.0)
    assert all(placed[k].caption != GlyphScenes("train", 200)[k].caption for k in range(200))
    with pytest.raises(UserError, match="caption_noise is a share"):
        GlyphScenes("train", 3, caption_noise=1.5)


def test_objects_right_from_the_floor_to_the_ceiling():
    rng = np.random.default_rng(0)
    some = [layouts()[k] for k in rng.permutation(2400)[:300]]
    captions = [caption(layout, places=False) for layout in some]
    pictures = pictures_of(*some)
    noisy = (pictures + torch.randn(pictures.shape, generator=generator()) * 6 / 255).clamp(0, 1)
    assert objects_right(pictures, captions).eq(1).all() and objects_right(noisy, captions).eq(1).all()
    assert objects_right(pictures, [caption(layout) for layout in some]).eq(1).all()  # names of places are passed over
    grey = torch.full_like(pictures, BACKGROUND / 255)
    assert objects_right(grey, captions).eq(0).all()
    assert objects_right(pictures.mean(0, keepdim=True).expand_as(pictures), captions).mean() < 0.06
    assert 0.05 < objects_right(pictures.roll(1, 0), captions).mean() < 0.15  # pictures of other captions: the floor
    assert objects_right(torch.rand(pictures.shape, generator=generator()), captions).mean() < 0.06


def test_objects_right_counts_wrong_missing_and_further_objects():
    (red, blue, other) = (KINDS.index(kind) for kind in (("red", "block"), ("blue", "slash"), ("green", "bar")))
    text = "red block blue slash"
    layouts_ = [((0, red), (3, blue)), ((2, blue), (1, red)), ((0, red),), ((0, red), (1, other)), ((0, red), (1, red))]
    layouts_ += [((0, red), (1, blue), (2, other)), ((0, red), (1, blue), (2, red), (3, blue))]
    found = objects_right(pictures_of(*layouts_), [text] * len(layouts_))
    torch.testing.assert_close(found, torch.tensor([1, 1, 1 / 2, 1 / 2, 1 / 2, 2 / 3, 1 / 2]))
    assert objects_right(pictures_of(((0, red), (1, red))), ["red block red block"]).item() == 1


def test_features_of_glyphs_see_objects_and_their_wrongness_and_no_places():
    (red, blue) = (KINDS.index(kind) for kind in (("red", "block"), ("blue", "slash")))
    a, b, c = GlyphFeatures()(pictures_of(((0, red), (3, blue)), ((1, red), (2, blue)), ((0, red),)))
    assert a.shape == (GlyphFeatures.num_features,) and torch.equal(a, b) and a[red] == a[blue] == 0
    assert c[blue] > 0.1 and a.gt(0).sum() == 18
    dim = GlyphFeatures()(0.5 * pictures_of(((0, red), (3, blue))))[0]
    assert dim[red] > 0.1


def test_coco_s_captions(tmp_path):
    make_coco(tmp_path, "val", images=3)
    images, file = tmp_path / "val2017", tmp_path / "annotations/captions_val2017.json"
    source = CocoCaptions(str(images), str(file), limit=2)
    assert len(source) == 2 and source[0].caption and source[0].name == "000000000001.jpg"
    assert np.array_equal(source[0].image, np.array(Image.open(images / "000000000001.jpg")))
    with pytest.raises(UserError, match="no folder of COCO's pictures"):
        CocoCaptions(str(tmp_path / "nothing"), str(file))
    with pytest.raises(UserError, match="instances_val2014.json is missing"):
        CocoCaptions(str(images), str(tmp_path / "annotations/instances_val2014.json"))
    with pytest.raises(UserError, match="COCO's captions"):
        CocoCaptions(str(images), str(tmp_path / "annotations/instances_val2017.json"))
