"""What captions and drawn pictures of the world of glyphs are marked by."""

from torch import Tensor

from common.data.worlds.glyph_scenes import matching_slots, read_slots


def mean_slots(texts: list[str], truths: list[str]) -> float:
    """Mean share of the six words of the world's captions that stand in their places.

    The best answer that is the same for all pictures scores 0.32: a fifth of the colours, a quarter of the glyphs and
    half of the cells.
    """
    return sum(matching_slots(a, b) for a, b in zip(texts, truths, strict=True)) / len(texts)


def drawn_slots(pictures: Tensor, truths: list[str]) -> float:
    """The same of the words that are read from pictures [B, 3, 8, 8] in [0, 1]."""
    return mean_slots([" ".join(words) for words in read_slots(pictures)], truths)
