"""A tiny text-to-image model of pixels, and a pipeline with an autoencoder, for tests of LoRA distillation."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler

from common.data.words import word_tokenizer
from common.data.worlds.glyph_scenes import GlyphScenes
from common.foundations.text_to_image import build_text_encoder, build_unet
from common.models.text_to_image import TextToImage

WORLD = GlyphScenes("train", 16, places_named=False)
CAPTIONS = [WORLD[k].caption for k in range(len(WORLD))]
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def model() -> TextToImage:
    """8 x 8 pixels, 8 channels, one attention at each of three transformers."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer(CAPTIONS, length=6, ends=True)
    scheduler = DDPMScheduler(1000, **NOISE)
    return TextToImage(tokenizer, build_text_encoder(tokenizer, 16, 1), build_unet(8, (8, 8), 16), scheduler).eval()


def write_model(folder: Path) -> Path:
    model().save_pretrained(folder)
    return folder
