"""Stand-ins for speech encoders: the real classes, depths and strides; narrow."""

import json
import string
from pathlib import Path
from typing import Any

import transformers

from common.rehearsal import tokenizers
from common.rehearsal.text_models import HEADS, SIZES, bart_sizes, save, vocabulary


def whisper(folder: Path, layers: int, decoder_layers: int | None = None, mels: int = 80) -> None:
    """Whisper for 30 s of 16 kHz audio."""
    languages, tasks = ["<|en|>", "<|de|>", "<|fr|>"], ["<|translate|>", "<|transcribe|>"]
    others = ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    special = ["<|startoftranscript|>", *languages, *tasks, *others]
    tokenizer = tokenizers.byte_level(transformers.WhisperTokenizer, special, length=448)
    tokenizer.add_tokens([f"<|{0.02 * i:.2f}|>" for i in range(1501)])
    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    sizes = bart_sizes(layers) | {"decoder_layers": decoder_layers or layers}
    del sizes["max_position_embeddings"]
    settings = transformers.WhisperConfig(
        **sizes,
        **vocabulary(tokenizer) | {"pad_token_id": tokenizer.eos_token_id},
        num_mel_bins=mels,
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )
    model = transformers.WhisperForConditionalGeneration(settings)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=settings.decoder_start_token_id,
        eos_token_id=settings.eos_token_id,
        pad_token_id=settings.pad_token_id,
        is_multilingual=True,
        lang_to_id={token: ids[token] for token in languages},
        task_to_id={token.strip("<|>"): ids[token] for token in tasks},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[tokenizer.eos_token_id],
        max_length=448,
    )
    save(folder, model, tokenizer, transformers.WhisperFeatureExtractor(feature_size=mels))


def wav2vec2(folder: Path, kind: str, layers: int = 12, large: bool = False) -> None:
    """wav2vec 2.0, HuBERT or WavLM: raw 16 kHz audio, 50 frames a second; `kind` is the class, as "HubertModel".

    Args:
        large: layer norm in the convolutions and before the blocks, as the large releases have it.
    """
    model = getattr(transformers, kind)
    ids = {}
    if kind.startswith("Wav2Vec2"):  # the releases of the others are without a vocabulary
        characters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *string.ascii_uppercase]
        (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(characters)}), encoding="utf-8")
        tokenizer = transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json")
        ids = vocabulary(tokenizer)
        save(folder, tokenizer)
    settings = model.config_class(
        **SIZES,
        **ids,
        num_hidden_layers=layers,
        conv_dim=(16,) * 7,
        num_conv_pos_embedding_groups=HEADS,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
    )
    features = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=large, do_normalize=True)
    save(folder, model(settings), features)
