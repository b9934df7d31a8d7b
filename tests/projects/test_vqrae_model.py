"""VQRAE's tokenizer, its training stages and its prior: shapes, inverses, which parameters learn, equality of paths."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, AutoProcessor, AutoTokenizer

from common.data.worlds.shapes import VOCABULARY
from common.errors import UserError
from common.models.classifiers import SiglipClassifier, convnext, vgg16
from common.rehearsal.hub import snapshot, write_hub
from projects.vqrae.captions import read_prompts, world_words
from projects.vqrae.discriminator import Adversary
from projects.vqrae.encoder import EncoderConfig, build_encoder, patchify, tower, unpatchify
from projects.vqrae.evaluate import Evaluation
from projects.vqrae.model import VQRAE, Codebook
from projects.vqrae.perceptual import PerceptualNets
from projects.vqrae.prior import LanguageModel, Prior, PriorTraining
from projects.vqrae.tools.export import main
from projects.vqrae.train import RunningMean, TokenizerTraining, cosine
from projects.vqrae.understanding import HeadConfig, LinearHead, build_head, probe

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIGLIP = EncoderConfig("siglip", sizes={**SIZES, "image_size": 32, "patch_size": 8})
INTERN = EncoderConfig("internvl", sizes={**SIZES, "image_size": 28, "patch_size": 14})
BOOK = Codebook(size=20, dim=12)


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> PerceptualNets:
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    save_file(vgg16(2, 3).state_dict(), folder / "vgg.safetensors")
    save_file(convnext((8, 8, 8, 8), (1, 1, 1, 1), 3).state_dict(), folder / "convnext.safetensors")
    files = (str(folder / "vgg.safetensors"), str(folder / "convnext.safetensors"))
    return PerceptualNets(*files, 2, False, (8, 8, 8, 8), (1, 1, 1, 1), 3, 32)


def training(nets: PerceptualNets, step: int = 0, **settings) -> TokenizerTraining:
    torch.manual_seed(0)
    module = TokenizerTraining(SIGLIP, BOOK, nets, **settings)
    module._trainer = SimpleNamespace(global_step=step, max_epochs=-1, limit_train_batches=1.0, max_steps=10)
    module.log = module.log_dict = lambda *_, **__: None
    return module


def learned(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is not None}


def batch() -> dict:
    return {"image": torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize(("encoder", "side", "tokens"), [(SIGLIP, 32, 16), (INTERN, 28, 4)])
def test_a_token_a_patch_and_a_picture_of_the_same_size(encoder, side, tokens):
    model = VQRAE(encoder, BOOK)
    images = torch.rand(2, 3, side, side)
    out = model(images)
    assert out.features.shape == (2, tokens, 32) and out.codes.shape == (2, tokens, 12)
    assert out.indices.shape == (2, tokens) and out.images.shape == images.shape
    torch.testing.assert_close(model.decode_indices(out.indices), out.images)
    assert len(model.decoder.vit.encoder.layers if encoder is SIGLIP else model.decoder.vit.encoder.layer) == 2


def test_the_paper_s_numbers_of_tokens():
    for image, patch, tokens in ((256, 16, 256), (512, 16, 1024), (448, 14, 1024)):
        assert (image // patch) ** 2 == tokens == patchify(torch.zeros(1, 3, image, image), patch).shape[1]


def test_unpatchify_inverts_patchify():
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(unpatchify(patchify(images, 8), 8), images)
    corner = patchify(images, 8)[0, 1].view(3, 8, 8)
    assert torch.equal(corner, images[0, :, :8, 8:16])  # row by row


@pytest.mark.parametrize(("encoder", "mean"), [(SIGLIP, [0.5, 0.5, 0.5]), (INTERN, [0.485, 0.456, 0.406])])
def test_a_decoder_without_contrast_draws_the_mean_colour(encoder, mean):
    decoder = VQRAE(encoder, BOOK).decoder
    for parameter in decoder.to_pixels.parameters():
        nn.init.zeros_(parameter)
    images = decoder(torch.randn(2, decoder.grid**2, 32))
    torch.testing.assert_close(images, torch.tensor(mean).view(3, 1, 1).expand_as(images))
    assert not any(name in ("mean", "std") for name in decoder.state_dict())


def test_a_continuous_latent_has_no_quantiser():
    out = VQRAE(SIGLIP, Codebook(dim=12, kind="none"))(batch()["image"])
    assert out.indices is None and out.loss == 0


def test_a_foundation_s_tower_is_found_in_the_larger_model(tmp_path):
    whole = SiglipClassifier(SIGLIP.sizes, classes=3)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    encoder = build_encoder(EncoderConfig("siglip", sizes=SIGLIP.sizes, weights=str(tmp_path / "weights.safetensors")))
    images = batch()["image"]
    features = encoder(images)
    torch.testing.assert_close(LinearHead(dict(whole.state_dict()))(features), whole((images - 0.5) / 0.5))
    with pytest.raises(UserError, match="no image tower"):
        tower({"other": torch.zeros(1)}, ["embeddings.weight"], "file")


def test_stage_1_trains_all_but_encoder_and_codes(nets):
    module = training(nets)
    module.training_step(batch(), 0).backward()
    expected = {n for n, _ in module.tokenizer.named_parameters() if not n.startswith(("encoder.", "quantizer.codes"))}
    assert learned(module.tokenizer) == expected and "to_codes.weight" in expected
    assert not learned(module.perceptual) and module.discriminator is None and module.teacher is None
    assert not module.tokenizer.encoder.training


def test_stage_2_trains_the_encoder_and_not_the_teacher(nets, tmp_path):
    first = training(nets)
    save_file(first.tokenizer.state_dict(), tmp_path / "stage1.safetensors")
    weights = str(tmp_path / "stage1.safetensors")
    save_file(first.tokenizer.encoder.vit.state_dict(), tmp_path / "original.safetensors")
    original = EncoderConfig("siglip", sizes=SIGLIP.sizes, weights=str(tmp_path / "original.safetensors"))
    torch.manual_seed(1)
    module = TokenizerTraining(original, BOOK, nets, weights=weights, train_encoder=True, distill_weight=1.0)
    module._trainer = SimpleNamespace(global_step=0)
    terms = {}
    module.log_dict = lambda found: terms.update(found)
    module.log = lambda *_: None
    module.training_step(batch(), 0).backward()
    assert terms["train/distill"] == 0  # at the beginning encoder and teacher are the same
    assert {n for n, _ in module.tokenizer.named_parameters()} - learned(module.tokenizer) == {"quantizer.codes"}
    assert not learned(module.teacher)


def test_pixels_count_as_often_as_they_should(nets):
    once, thrice = ((training(nets, pixel_weight=w), {}) for w in (1.0, 3.0))
    for module, terms in (once, thrice):
        module.log_dict = terms.update
        module.training_step(batch(), 0)
    torch.testing.assert_close(thrice[1]["train/pixels"], 3 * once[1]["train/pixels"])
    torch.testing.assert_close(thrice[1]["train/quant"], once[1]["train/quant"])


def encoder_gradient(module: TokenizerTraining, term: str) -> float:
    terms = {}
    module.log_dict = lambda found: terms.update(found)
    module.training_step(batch(), 0)
    module.zero_grad()
    terms[f"train/{term}"].backward()
    return sum(p.grad.abs().sum().item() for p in module.tokenizer.encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("term", ["pixels", "perceptual", "quant", "distill"])
def test_gradients_reach_the_encoder_through_every_term(nets, term):
    module = training(nets, train_encoder=True, distill_weight=1.0)
    nn.init.normal_(module.teacher.vit.post_layernorm.weight)  # so that there is something to distil
    assert encoder_gradient(module, term) > 0


def test_generator_and_discriminator_do_not_teach_each_other(nets):
    module = training(nets, step=5, train_encoder=True, adversary=Adversary(start=5, hidden=32, stages=1))
    images = batch()["image"]
    made = module.tokenizer(images).images
    terms = module.play(images, made)
    terms["generator"].backward(retain_graph=True)
    assert not learned(module.discriminator) and "encoder.vit.embeddings.patch_embedding.weight" in learned(
        module.tokenizer
    )
    module.zero_grad(set_to_none=True)
    (terms["discriminator"] + terms["lecam"]).backward()
    assert learned(module.discriminator) and not learned(module.tokenizer)


def test_the_discriminator_waits_for_its_start(nets):
    module = training(nets, step=4, adversary=Adversary(start=5, hidden=32, stages=1))
    module.training_step(batch(), 0).backward()
    assert not learned(module.discriminator)
    module._trainer.global_step = 5
    module.training_step(batch(), 0).backward()
    assert learned(module.discriminator)


def test_rates_of_the_groups(nets):
    module = training(
        nets,
        train_encoder=True,
        lr=1e-4,
        end_lr=1e-5,
        encoder_lr=1e-5,
        warmup_steps=2,
        adversary=Adversary(5, hidden=32),
    )
    found = module.configure_optimizers()
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(11):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    rest, encoder, discriminator = list(zip(*rates, strict=True))[::2]
    assert list(zip(*rates, strict=True))[1::2] == [rest, encoder, discriminator]  # with and without weight decay
    assert rest[:2] == (5e-5, 1e-4) and rest[10] == pytest.approx(1e-5)
    assert encoder[1:] == (1e-5,) * 10  # it ends where it is: the cosine never goes below the other's end
    assert discriminator[5:8] == (2e-5, 4e-5, 4e-5) and discriminator[10] == pytest.approx(4e-6)
    assert 4e-5 > discriminator[8] > discriminator[9] > 4e-6
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(module.tokenizer.quantizer.codes) not in trained


def test_weight_decay_spares_biases_gains_and_embeddings(nets):
    module = training(nets, train_encoder=True, weight_decay=0.3, adversary=Adversary(0, hidden=32, stages=1))
    groups = module.configure_optimizers()["optimizer"].param_groups
    decayed = {id(p) for group in groups for p in group["params"] if group["weight_decay"] == 0.3}
    spared = {id(p) for group in groups for p in group["params"] if group["weight_decay"] == 0}
    learning = {
        f"{part}.{name}": p
        for part in ("tokenizer", "discriminator")
        for name, p in getattr(module, part).named_parameters()
        if p.requires_grad
    }
    assert not decayed & spared and decayed | spared == {id(p) for p in learning.values()}
    for name in ("to_codes.weight", "quantizer.projection.weight", "encoder.vit.encoder.layers.0.mlp.fc1.weight"):
        assert id(learning[f"tokenizer.{name}"]) in decayed, name
    assert id(learning["discriminator.block_in.0.weight"]) in decayed
    for name in (
        "to_codes.bias",
        "encoder.vit.post_layernorm.weight",
        "encoder.vit.embeddings.position_embedding.weight",
    ):
        assert id(learning[f"tokenizer.{name}"]) in spared, name
    assert id(learning["discriminator.blocks.0.2.weight"]) in spared


def test_gradients_are_clipped_apart(nets):
    module = training(nets, train_encoder=True, adversary=Adversary(0, hidden=32, stages=1), clip=0.5)
    (100 * module.training_step(batch(), 0)).backward()
    module.configure_gradient_clipping()
    for part in (module.tokenizer, module.discriminator):
        norms = [p.grad.norm() for p in part.parameters() if p.grad is not None]
        assert torch.stack(norms).norm() == pytest.approx(0.5, rel=1e-3)


def test_checkpoints_leave_out_what_has_its_own_file(nets):
    module = training(nets, train_encoder=True, distill_weight=1.0)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert not [key for key in checkpoint["state_dict"] if key.startswith(("teacher.", "perceptual."))]
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])


def test_losses_are_in_float32_under_any_precision(nets):
    """Nets that losses ask get float32 pictures and answer in it; the tokenizer itself runs in the lower precision."""
    module = training(nets, train_encoder=True, distill_weight=1.0, adversary=Adversary(start=0, hidden=32, stages=1))
    seen: dict[str, set] = {"asked": set(), "tokenizer": set()}
    for part in (module.perceptual.lpips.features[0], module.perceptual.convnext.classifier.features[0][0]):
        part.register_forward_hook(lambda _, inputs, out: seen["asked"].update({inputs[0].dtype, out.dtype}))
    judge = module.discriminator.block_in[0]
    judge.register_forward_hook(lambda _, inputs, out: seen["asked"].update({inputs[0].dtype, out.dtype}))
    module.tokenizer.from_codes.register_forward_hook(lambda _, inputs, out: seen["tokenizer"].add(out.dtype))
    terms = {}
    module.log_dict = terms.update
    with torch.autocast("cpu", torch.bfloat16):
        module.training_step(batch(), 0)
    assert seen == {"asked": {torch.float32}, "tokenizer": {torch.bfloat16}}
    assert len(terms) == 7 and {value.dtype for value in terms.values()} == {torch.float32}


def test_the_running_mean_forgets_its_beginning():
    averaged, trained = [torch.zeros(2)], [torch.ones(2)]
    RunningMean(0.999)(averaged, trained, torch.tensor(8))
    torch.testing.assert_close(averaged[0], torch.full((2,), 0.5))  # (1 + 8) / (10 + 8) stays
    RunningMean(0.999)(averaged, trained, torch.tensor(10**6))
    torch.testing.assert_close(averaged[0], torch.full((2,), 0.5005))
    RunningMean(0.0)(averaged, trained, torch.tensor(3))
    assert torch.equal(averaged[0], trained[0])


def test_the_running_mean_is_what_is_validated_and_handed_on(nets):
    module = training(nets, lr=0.1, warmup_steps=1)
    optimizer = module.configure_optimizers()["optimizer"]
    weights = []
    for step in range(3):
        optimizer.zero_grad()
        module.training_step(batch(), step).backward()
        module.optimizer_step(0, step, optimizer, None)
        weights.append(module.tokenizer.from_codes.weight.detach().clone())
    mean = weights[0].lerp(weights[1], 1 - 2 / 11).lerp(weights[2], 1 - 3 / 12)
    torch.testing.assert_close(module.exported().from_codes.weight, mean)
    assert set(module.exported().state_dict()) == set(module.tokenizer.state_dict())
    assert not any(p.requires_grad for p in module.averaged.parameters())
    module.psnr.update = lambda made, images: torch.testing.assert_close(
        made, module.exported()(images).images.clamp(0, 1)
    )
    module.validation_step(batch(), 0)
    module.log_dict = (logged := {}).update
    module.on_validation_epoch_end()
    assert set(logged) == {"val/usage", "val/perplexity"} and not module.usage.update_called


def test_cosine():
    assert [cosine(step, 2, 12, 0.1) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert cosine(7, 2, 12, 0.1) == pytest.approx(0.55) and cosine(12, 2, 12, 0.1) == pytest.approx(0.1)
    for step in range(13):
        assert cosine(step + 30, 2, 42, 0.1, start=30) == cosine(step, 2, 12, 0.1)


def prior() -> Prior:
    torch.manual_seed(0)
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32}
    return Prior(LanguageModel(sizes=sizes, text_length=4), codebook_size=20).eval()


def test_the_vocabulary_is_enlarged_by_the_codes():
    model = prior()
    assert model.model.get_input_embeddings().num_embeddings == len(VOCABULARY) + 2 + 20 + 1
    ids, mask = model.text(["a red star", "an orange striped ring"])
    assert ids.shape == (2, 5) and mask[0].tolist() == [0, 1, 1, 1, 1] and mask[1].tolist() == [1] * 5
    assert (ids[:, -1] == model.first_code + 20).all()
    assert world_words().unk_token_id not in ids


def test_prior_learns_codes_and_no_words():
    model, indices = prior(), torch.randint(0, 20, (2, 6))
    loss = model.loss(["a red star", "a ring"], indices)
    ids, mask = model.text(["a red star", "a ring"])
    whole, mask = torch.cat([ids, model.first_code + indices], 1), torch.cat([mask, torch.ones_like(indices)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model.model(input_ids=whole, attention_mask=mask, position_ids=positions).logits
    picked = logits[:, 4:-1].log_softmax(-1).gather(2, (model.first_code + indices)[..., None])
    torch.testing.assert_close(loss, -picked.mean())


def test_cached_sampling_takes_the_likeliest_code_of_the_whole_sequence():
    model, captions = prior(), ["a red star", "an orange striped ring"]
    drawn = model.sample(captions, count=5, temperature=1e-4)
    assert drawn.shape == (2, 5) and torch.equal(drawn, model.sample(captions, 5, temperature=1.0, top_k=1))
    ids, mask = model.text(captions)
    whole, mask = torch.cat([ids, model.first_code + drawn], 1), torch.cat([mask, torch.ones_like(drawn)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model.model(input_ids=whole, attention_mask=mask, position_ids=positions).logits
    codes = logits[:, 4:-1, model.first_code : model.first_code + 20]
    assert torch.equal(codes.argmax(-1), drawn)


def test_guidance_leads_away_from_what_any_caption_makes_likely():
    """Against both distributions, computed from whole sequences: log p(free) + s (log p(given) - log p(free))."""
    model, captions, scale = prior(), ["a red star", "an orange striped ring"], 3.0
    drawn = model.sample(captions, count=5, temperature=1e-4, guidance=scale)
    whole = {}
    for name, texts in (("given", captions), ("free", ["", ""])):
        ids, mask = model.text(texts)
        full, mask = torch.cat([ids, model.first_code + drawn], 1), torch.cat([mask, torch.ones_like(drawn)], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        whole[name] = model.model(input_ids=full, attention_mask=mask, position_ids=positions).logits[:, 4:-1]
    given, free = (whole[name].log_softmax(-1) for name in ("given", "free"))
    guided = (free + scale * (given - free))[..., model.first_code : model.first_code + 20]
    assert torch.equal(guided.argmax(-1), drawn)
    assert not torch.equal(given[..., model.first_code : model.first_code + 20].argmax(-1), drawn)


@pytest.mark.parametrize(("share", "seen"), [(0.0, {"a red star"}), (1.0, {""}), (0.5, {"a red star", ""})])
def test_captions_are_dropped_for_guidance(share, seen, tmp_path):
    tokenizer = VQRAE(SIGLIP, BOOK)
    save_file(tokenizer.state_dict(), tmp_path / "tokenizer.safetensors")
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32}
    language = LanguageModel(sizes=sizes, text_length=4)
    module = PriorTraining(SIGLIP, BOOK, str(tmp_path / "tokenizer.safetensors"), language, caption_drop=share)
    module.log = lambda *_, **__: None
    learned_from: set[str] = set()
    module.prior.loss = lambda captions, indices: learned_from.update(captions)
    torch.manual_seed(0)
    pictures = {"image": torch.rand(16, 3, 32, 32), "caption": ["a red star"] * 16}
    module.training_step(pictures, 0)
    assert learned_from == seen
    learned_from.clear()
    module.validation_step(pictures, 0)
    assert learned_from == {"a red star"}


def test_probe_separates_what_can_be_separated():
    x = torch.randn(200, 5).numpy()
    assert probe(x[:100], x[:100, 0] > 0, x[100:], x[100:, 0] > 0) > 0.85


def evaluation(tmp_path, nets, size: int, measured: int | None) -> Evaluation:
    encoder = EncoderConfig("siglip", sizes={**SIZES, "image_size": size, "patch_size": 8})
    torch.manual_seed(0)
    save_file(VQRAE(encoder, BOOK).state_dict(), tmp_path / "weights.safetensors")
    return Evaluation(encoder, BOOK, nets, str(tmp_path / "weights.safetensors"), measured_size=measured, pictures=0)


def test_pictures_are_compared_at_the_measured_size(nets, tmp_path):
    """All measures see the smaller ones; one colour a patch is a patch of the tokenizer's own, and survives."""
    module = evaluation(tmp_path, nets, 64, 32)
    seen = {}
    module.ssim.update = lambda made, images: seen.update(ssim=(made.shape, images.shape))
    module.fid.update = lambda images, real: seen.update({f"fid_{real}": images.shape})
    module.lpips.forward = lambda made, images: seen.update(lpips=(made.shape, images.shape)) or torch.zeros(2)
    module.head = None
    patches = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    images = patches.repeat_interleave(8, 3)
    module.test_step({"image": images, "label": torch.zeros(2).long()}, 1)
    small = (2, 3, 32, 32)
    assert set(seen.values()) == {small, (small, small)} and len(seen) == 4
    assert module.psnr_patches.compute() > 100  # the pictures are such
    assert module.compared(images).shape == small and module.compared(3 * images - 1).min() >= 0
    assert module.compared(3 * images - 1).max() <= 1
    plain = evaluation(tmp_path, nets, 32, None)
    assert torch.equal(plain.compared(images), images)


def test_prompts_of_both_benchmarks(tmp_path):
    (tmp_path / "geneval.jsonl").write_text('{"prompt": "a photo of a bench", "tag": "single_object"}\n')
    assert read_prompts(str(tmp_path / "geneval.jsonl"))[0]["tag"] == "single_object"
    (tmp_path / "dpg").mkdir()
    (tmp_path / "dpg/12.txt").write_text("A long prompt.\n")
    assert read_prompts(str(tmp_path / "dpg")) == [{"prompt": "A long prompt.", "name": "12"}]
    (tmp_path / "bad.jsonl").write_text('{"tag": 1}\n')
    with pytest.raises(UserError, match="bad.jsonl, line 1.*`prompt` is missing"):
        read_prompts(str(tmp_path / "bad.jsonl"))
    with pytest.raises(UserError, match="missing.jsonl"):
        read_prompts(str(tmp_path / "missing.jsonl"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("caf\xe9".encode("latin-1"), "line 1.*not UTF-8"),
        (b"", "holds no prompt"),
        (b"a\0b", "NUL"),
        (b"<!doctype html>", "web page"),
    ],
)
def test_prompts_that_are_no_text_name_their_file(content, said, tmp_path):
    (tmp_path / "12.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"12.txt.*{said}"):
        read_prompts(str(tmp_path))


@pytest.mark.parametrize(
    "line", ['{"prompt": 5}', '{"prompt": " "}', "[1]", '{"prompt": "a", "name": "../b"}', "[" * 10**5]
)
def test_prompts_of_another_form_name_their_line(line, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"prompt": "a"}\n' + line + "\n")
    with pytest.raises(UserError, match="own.jsonl, line 2"):
        read_prompts(str(tmp_path / "own.jsonl"))


SIGLIP_HUB, INTERN_HUB = "google/siglip2-base-patch16-224", "OpenGVLab/InternVL3-8B-hf"


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_hub(root, [SIGLIP_HUB, INTERN_HUB], layers=2)
    return root


@pytest.mark.parametrize(("kind", "name"), [("siglip", SIGLIP_HUB), ("internvl", INTERN_HUB)])
def test_a_tower_of_the_hub_is_loaded_tuned_and_put_back(kind, name, hub, tmp_path):
    folder = str(snapshot(hub, name))
    tokenizer = VQRAE(EncoderConfig(kind, hub=folder), BOOK)
    before = {name: value.clone() for name, value in tokenizer.encoder.state_dict().items()}
    for parameter in tokenizer.encoder.parameters():
        parameter.data.add_(0.1)
    save_file(tokenizer.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "config.yaml").write_text(f"model: {{encoder: {{kind: {kind}, hub: {folder}}}}}")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 0
    again = build_encoder(EncoderConfig(kind, hub=str(tmp_path / "out")))
    for key, value in again.state_dict().items():
        assert torch.equal(value, tokenizer.encoder.state_dict()[key]) and not torch.equal(value, before[key])
    AutoProcessor.from_pretrained(tmp_path / "out")


def test_export_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("model: {encoder: {kind: siglip, hub: null}}")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "no part of a model on the hub" in capsys.readouterr().err


def test_zero_shot_head_is_siglip_s_own(hub):
    folder = str(snapshot(hub, SIGLIP_HUB))
    head = build_head(HeadConfig("zero_shot", folder), ("tench, Tinca tinca", "goldfish"))
    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    images, prompts = torch.rand(2, 3, 224, 224), ["This is a photo of tench.", "This is a photo of goldfish."]
    text = words(prompts, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        whole = model(input_ids=text.input_ids, pixel_values=images * 2 - 1).logits_per_image
        ours = head(build_encoder(EncoderConfig("siglip", hub=folder))(images))
    torch.testing.assert_close(ours * model.logit_scale.exp() + model.logit_bias, whole, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="names of the classes"):
        build_head(HeadConfig("zero_shot", folder), ())
