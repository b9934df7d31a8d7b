"""Whisper out of a file of CTranslate2, its format's version 6: tensors by name, in float16."""

import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from common.errors import UserError

VERSION, SPECIFICATION = 6, "WhisperSpec"
KINDS = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
ENGLISH = 51864  # pieces of the models that know English alone
END, START, NO_TIMESTAMPS, BEFORE = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>"
TOKENS = 448  # of a transcript at most
RATE = 16_000


def convert(files: dict[str, Path], folder: Path) -> None:
    """Write model, tokenizer, feature extractor and how to generate, as the hub has them.

    Args:
        files: `model.bin`, `tokenizer.json` and `config.json`, by these names.

    Raises:
        UserError: one of them is damaged, or of another version or model.
    """
    tensors = read(files["model.bin"])
    known = WhisperTokenizer.from_pretrained(files["tokenizer.json"].parent, model_max_length=1024)
    settings = json.loads(files["config.json"].read_text(encoding="utf-8"))
    net = model(tensors, known)
    net.generation_config = generation(net.config, settings, known)
    for part in (net, known, WhisperFeatureExtractor(feature_size=net.config.num_mel_bins)):
        part.save_pretrained(folder)


def read(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, by their names, aliases included."""
    try:
        with file.open("rb") as content:

            def number(form: str) -> int:
                return struct.unpack(f"<{form}", content.read(struct.calcsize(form)))[0]

            def text() -> str:
                return content.read(number("H")).rstrip(b"\0").decode()

            if (found := (number("I"), text())) != (VERSION, SPECIFICATION):
                raise UserError(
                    f"{file.name} is of version {found[0]} and holds {found[1]}, not a Whisper of version 6"
                )
            number("I")  # the specification's revision
            tensors = {}
            for _ in range(number("I")):
                name = text()
                shape = [number("I") for _ in range(number("B"))]
                kind, size = KINDS[number("B")], number("I")
                tensors[name] = np.frombuffer(content.read(size), kind).reshape(shape)
            aliases = {text(): text() for _ in range(number("I"))}
    except (struct.error, ValueError, KeyError) as error:
        raise UserError(f"{file.name} is damaged: {error}") from error
    return tensors | {alias: tensors[name] for alias, name in aliases.items()}


def model(tensors: dict[str, np.ndarray], known: PreTrainedTokenizerFast) -> WhisperForConditionalGeneration:
    """A Whisper with these weights; UserError where some are missing or left over."""
    pieces, width = tensors["decoder/embeddings/weight"].shape
    if pieces != ENGLISH:
        raise UserError(f"this Whisper has {pieces} pieces; those of the English models are {ENGLISH}")
    sides = {side: len({name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_") and "norm" not in
                        name.split("/")[1]}) for side in ("encoder", "decoder")}  # fmt: skip
    heads = int(tensors["encoder/num_heads"])
    end, start = (known.convert_tokens_to_ids(token) for token in (END, START))
    config = WhisperConfig(
        vocab_size=pieces, d_model=width, encoder_layers=sides["encoder"], decoder_layers=sides["decoder"],
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, num_mel_bins=tensors["encoder/conv1/weight"].shape[1], bos_token_id=end,
        eos_token_id=end, pad_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    weights = {"model.decoder.embed_tokens.weight": tensor(tensors, "decoder/embeddings/weight")}
    for side, layers in sides.items():
        weights[f"model.{side}.embed_positions.weight"] = tensor(tensors, f"{side}/position_encodings/encodings")
        weights |= norm(tensors, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(layers):
            weights |= block(tensors, f"{side}/layer_{layer}", f"model.{side}.layers.{layer}")
    for convolution in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            weights[f"model.encoder.{convolution}.{part}"] = tensor(tensors, f"encoder/{convolution}/{part}")
    net = WhisperForConditionalGeneration(config)
    try:
        left = net.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"this Whisper's weights do not fit: {error}") from error
    if left.unexpected_keys or left.missing_keys not in ([], ["proj_out.weight"]):
        raise UserError(f"this Whisper has other weights: {[*left.missing_keys, *left.unexpected_keys][:3]}")
    net.tie_weights()
    return net


def block(tensors: dict[str, np.ndarray], source: str, target: str) -> dict[str, Tensor]:
    """A layer: queries, keys and values stand in one matrix, those of the other sequence in another."""
    found = {}
    attentions = [("self_attention", "self_attn", True)]
    if f"{source}/attention/linear_0/weight" in tensors:
        attentions.append(("attention", "encoder_attn", False))
    for theirs, ours, own in attentions:
        joined = [("q", "k", "v")] if own else [("q",), ("k", "v")]
        for place, names in enumerate(joined):
            for part, name in enumerate(names):
                found |= linear(tensors, f"{source}/{theirs}/linear_{place}", f"{target}.{ours}.{name}_proj",
                                part, len(names))  # fmt: skip
        found |= linear(tensors, f"{source}/{theirs}/linear_{len(joined)}", f"{target}.{ours}.out_proj")
        found |= norm(tensors, f"{source}/{theirs}/layer_norm", f"{target}.{ours}_layer_norm")
    for place in (0, 1):
        found |= linear(tensors, f"{source}/ffn/linear_{place}", f"{target}.fc{place + 1}")
    return found | norm(tensors, f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")


def linear(
    tensors: dict[str, np.ndarray], source: str, target: str, part: int = 0, parts: int = 1
) -> dict[str, Tensor]:
    """A linear layer, one of several that stand in one matrix; keys have no bias."""
    found = {
        f"{target}.{name}": tensor(tensors, f"{source}/{name}").chunk(parts)[part].contiguous()
        for name in ("weight", "bias")
    }
    if target.endswith("k_proj") and found.pop(f"{target}.bias").any():
        raise UserError(f"{source} gives keys a bias: this is not a Whisper")
    return found


def norm(tensors: dict[str, np.ndarray], source: str, target: str) -> dict[str, Tensor]:
    return {f"{target}.weight": tensor(tensors, f"{source}/gamma"), f"{target}.bias": tensor(tensors, f"{source}/beta")}


def tensor(tensors: dict[str, np.ndarray], name: str) -> Tensor:
    if name not in tensors:
        raise UserError(f"this Whisper has no {name}")
    return torch.from_numpy(tensors[name].astype(np.float32))


def generation(config: WhisperConfig, settings: dict, known: PreTrainedTokenizerFast) -> GenerationConfig:
    """How transcripts are made: without timestamps, and without what is no speech."""
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id, is_multilingual=False, max_length=TOKENS,
        no_timestamps_token_id=known.convert_tokens_to_ids(NO_TIMESTAMPS), return_timestamps=False,
        prev_sot_token_id=known.convert_tokens_to_ids(BEFORE), max_initial_timestamp_index=50,
        suppress_tokens=settings["suppress_ids"], begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
    )  # fmt: skip
