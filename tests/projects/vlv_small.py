"""The smallest VLV: the real classes in a few layers of width 16, on the world of glyphs."""

from functools import cache
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from common.data.words import word_tokenizer
from common.data.worlds.glyph_scenes import GlyphScenes, caption, layouts
from common.foundations.text_to_image import build_text_encoder, build_unet
from common.models.text_to_image import TextToImage
from projects.vlv.model import Captioner, Florence, build_encoder

QUERIES = 4
VISION = {
    "depths": [1],
    "patch_size": [3],
    "patch_stride": [2],
    "patch_padding": [1],
    "patch_prenorm": [False],
    "embed_dim": [8],
    "num_heads": [2],
    "num_groups": [2],
    "window_size": 4,
    "projection_dim": 16,
    "drop_path_rate": 0.0,
}
TEXT = {
    "model_type": "bart",
    "vocab_size": 8,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 32,
    "dropout": 0.0,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
SIZES = {"vision_config": VISION, "text_config": TEXT, "image_token_id": 7}


def florence(train_vision: bool = True) -> Florence:
    return Florence(sizes=SIZES, prompt=(4, 5), image_size=8, train_vision=train_vision)


def captions() -> list[str]:
    return [caption(layout) for layout in layouts()[::7]]


def images(count: int) -> Tensor:
    """[count, 3, 8, 8] in [0, 1]."""
    world = GlyphScenes("train", count)
    return torch.stack([torch.from_numpy(world[k].image).permute(2, 0, 1).float() / 255 for k in range(count)])


def text_to_image() -> TextToImage:
    tokenizer = word_tokenizer(captions(), length=8, ends=True)
    scheduler = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    return TextToImage(tokenizer, build_text_encoder(tokenizer, 16, 1), build_unet(8, (8, 8), 16), scheduler)


@cache
def qwen_tokenizer() -> Qwen2Tokenizer:
    return Qwen2Tokenizer().train_new_from_iterator(captions(), 500, show_progress=False)


def language_model() -> Qwen2ForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "tie_word_embeddings": True, "vocab_size": len(qwen_tokenizer())}
    return Qwen2ForCausalLM(Qwen2Config(**sizes))


def captioner() -> Captioner:
    text_encoder = text_to_image().text_encoder
    encoder = build_encoder(florence(), QUERIES, text_encoder.config)
    return Captioner(encoder, text_encoder, language_model(), qwen_tokenizer())


def write_foundations(folder: Path) -> tuple[str, str]:
    """A diffusion model's and a language model's folder."""
    torch.manual_seed(0)
    text_to_image().save_pretrained(folder / "t2i")
    language_model().save_pretrained(folder / "words")
    qwen_tokenizer().save_pretrained(folder / "words")
    return str(folder / "t2i"), str(folder / "words")
