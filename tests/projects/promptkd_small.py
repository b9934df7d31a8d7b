"""Small CLIPs of random weights, a domain of tiles, and what tests of PromptKD have in common."""

from pathlib import Path

import torch

from common.data.words import word_tokenizer
from common.data.worlds.tile_words import vocabulary
from common.data.worlds.tiles import TileScenes
from common.models.clip import Clip, ClipSizes, build_clip

KINDS = ["red disc", "green square", "blue ring", "yellow cross", "purple bar"]
SENTENCE, TEMPLATES = "a picture of a {}", ["a {}", "there is a {}"]


def clip(width: int = 32, dim: int = 16, seed: int = 0) -> Clip:
    torch.manual_seed(seed)
    sizes = ClipSizes(16, 8, width, 2, 16, 2, dim, 8)
    return build_clip(sizes, word_tokenizer(vocabulary(), length=12, ends=True)).eval()


def write_clips(folder: Path) -> tuple[str, str]:
    """Folders of a teacher and of a smaller student, by their paths."""
    clip(32, 16).save_pretrained(folder / "big")
    clip(16, 8, seed=1).save_pretrained(folder / "small")
    return str(folder / "big"), str(folder / "small")


def scenes(split: str = "train", size: int = 40) -> TileScenes:
    return TileScenes(split, size, objects=(1, 1), kinds=KINDS, domain="shifted", words="kind")
