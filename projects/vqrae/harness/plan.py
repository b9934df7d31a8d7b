"""What VQRAE's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen3Config, Qwen3ForCausalLM

from common.models.classifiers import convnext, vgg16
from common.recipe import Stage
from common.workload import Workload
from projects.vqrae.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from projects.vqrae.encoder import EncoderConfig, build_encoder
from projects.vqrae.model import VQRAE, Codebook
from projects.vqrae.perceptual import LogitDistance, Lpips

SO400M = {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304}
TOWERS = {
    "google/siglip2-so400m-patch16-256": {**SO400M, "patch_size": 16, "image_size": 256},
    "google/siglip2-so400m-patch16-512": {**SO400M, "patch_size": 16, "image_size": 512},
    "OpenGVLab/InternVL3-8B-hf": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "patch_size": 14, "image_size": 448,
    },
}  # fmt: skip
QWEN = {
    "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "tie_word_embeddings": True, "use_cache": False,
}  # fmt: skip
WORDS = 151_936  # of Qwen3
SAMPLES = {  # images that a stage goes over
    "ImageNet": 1_281_167,
    "CaptionedTars": 36_000_000,  # BLIP3-o's 27 M, 5 M and 4 M (§4.1)
}
VALIDATION = 50_000
PROMPTS = 4 * (553 + 1065)  # four pictures for each of GenEval's and of DPG-Bench's


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    tower = EncoderConfig(model["encoder"]["kind"], sizes=TOWERS[model["encoder"]["hub"]])
    tokenizer = VQRAE(tower, Codebook(**model["codebook"]))
    side, batch, workers = data["image_size"], data["batch_size"], data["num_workers"]
    images = lambda n: torch.zeros(n, 3, side, side)  # noqa: E731
    if stage.run == "fit":
        samples = SAMPLES[data["train"]["class_path"].rpartition(".")[2]]
        if stage.name == "prior":
            networks, step = _prior(tokenizer, model, images)
        else:
            networks, step = _train(tokenizer, tower, model, images)
        return Workload(networks, step, batch, samples, fused=True, workers=workers)
    tokenizer.requires_grad_(False).eval()
    if stage.name == "sample":
        language = _language_model(model).requires_grad_(False).eval()
        words, guided = model["language_model"]["text_length"] + 1, model.get("guidance", 1) != 1
        draw = partial(_draw, tokenizer, language, words, guided)
        return Workload(nn.ModuleList([tokenizer, language]), draw, batch, PROMPTS)
    return Workload(tokenizer, lambda n: tokenizer(images(n)).images, batch, VALIDATION, workers=workers)


def _train(tokenizer: VQRAE, tower: EncoderConfig, model: dict[str, Any], images: Any) -> tuple[nn.Module, Any]:
    """A step of `TokenizerTraining`, with the discriminator where it has one."""
    if not model.get("train_encoder"):
        tokenizer.encoder.requires_grad_(False)
    lpips, logits = Lpips(vgg16().features, learned_heads=False), LogitDistance(convnext(), 224)
    networks = {"tokenizer": tokenizer, "lpips": lpips, "convnext": logits}
    if "ema_decay" in model:  # the running mean of the tokenizer's weights
        networks["averaged"] = VQRAE(tower, Codebook(**model["codebook"])).requires_grad_(False).eval()
    if model.get("distill_weight"):
        networks["teacher"] = build_encoder(tower).requires_grad_(False).eval()
    adversary = model.get("adversary")
    if adversary:
        networks["discriminator"] = PatchDiscriminator(adversary["hidden"], adversary["stages"])

    def step(n: int) -> Tensor:
        x = images(n)
        out = tokenizer(x)
        with torch.no_grad():
            target = networks["teacher"](x) if "teacher" in networks else None
        with torch.autocast(x.device.type, enabled=False):  # the losses, and the networks in them, are in float32
            made = out.images.float()
            loss = F.mse_loss(made, x) + out.loss + (lpips(made, x) + logits(made, x)).mean()
            if target is not None:
                loss = loss + F.mse_loss(out.features.float(), target.float())
            if adversary:
                judge = networks["discriminator"]
                loss = loss + generator_loss(judge(made)) + discriminator_loss(judge(x), judge(made.detach()))
        return loss

    return nn.ModuleDict(networks), step


def _language_model(model: dict[str, Any]) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**QWEN, vocab_size=WORDS + model["codebook"]["size"] + 1))


def _prior(tokenizer: VQRAE, model: dict[str, Any], images: Any) -> tuple[nn.Module, Any]:
    """A step of `PriorTraining`: the frozen tokenizer's codes, and the language model over caption and codes."""
    tokenizer.requires_grad_(False).eval()
    language, words = _language_model(model), model["language_model"]["text_length"] + 1

    def step(n: int) -> Tensor:
        with torch.no_grad():
            codes = tokenizer.quantize(tokenizer.encoder(images(n)))[1]
        count = codes.shape[1]
        whole = torch.cat([torch.zeros(n, words, dtype=codes.dtype), codes], 1)
        logits = language(input_ids=whole, logits_to_keep=count + 1).logits[:, :-1]
        return F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())

    return nn.ModuleList([tokenizer, language]), step


def _draw(tokenizer: VQRAE, language: nn.Module, words: int, guided: bool, n: int) -> Tensor:
    """The arithmetic of drawing n pictures; that each code waits for the one before is not in it.

    Guidance asks the language model a second time, behind the opening of a picture alone.
    """
    count = tokenizer.decoder.grid**2
    for before in (words, 1) if guided else (words,):
        language(input_ids=torch.zeros(n, before + count, dtype=torch.long), logits_to_keep=count)
    return tokenizer.decode_indices(torch.zeros(n, count, dtype=torch.long))
