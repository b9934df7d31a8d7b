"""Pictures for the report: a text with what a compressor dropped in grey."""

import numpy as np
from PIL import Image, ImageDraw

from common.visual import FONT, GRID, INK, PAPER
from projects.llmlingua2.annotate import annotate, split_words

WIDTH, LINE, EDGE = 760, 19, 10


def marked(text: str, short: str) -> np.ndarray:
    """A text's words in lines, uint8 RGB; those that are left in `short` dark, the others pale."""
    words = split_words(text)
    window = 2 * max(1, len(words))  # all of the text: what stands in a compression is found wherever it is
    labels, _ = annotate([word.text for word in words], [word.text for word in split_words(short)], window)
    places, x, y = [], EDGE, EDGE
    for word in words:
        size = int(FONT.getlength(f"{word.text} "))
        if x + size > WIDTH - EDGE:
            x, y = EDGE, y + LINE
        places.append((x, y))
        x += size
    picture = Image.new("RGB", (WIDTH, y + LINE + EDGE), PAPER)
    pen = ImageDraw.Draw(picture)
    for word, kept, place in zip(words, labels, places, strict=True):
        pen.text(place, word.text, INK if kept else GRID, FONT)
    return np.array(picture)
