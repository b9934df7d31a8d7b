"""What the report shows: a picture, its captions, and how near each of them is."""

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from common.charts import DARK, LIGHT, Theme
from common.data.images import to_uint8
from common.visual import FONT, Themed, enlarge

CAPTION = "The true caption first, then its foils, each with its cosine to the picture; the bar of the nearest is full"
SIDE, LINE, BAR, WIDTH = 128, 24, 120, 640
LONGEST = 62  # letters of a caption


def drawn(image: Tensor, texts: list[str], scores: list[float]) -> Themed:
    """A picture [3, S, S] in [0, 1] beside its texts, the true one first, with a bar for each."""
    small, _ = enlarge(to_uint8(image[None])[0], SIDE)
    return Themed(_sheet(small, texts, scores, LIGHT), _sheet(small, texts, scores, DARK))


def _sheet(image: np.ndarray, texts: list[str], scores: list[float], theme: Theme) -> np.ndarray:
    height = max(len(image), LINE * len(texts)) + 8
    sheet = Image.new("RGB", (WIDTH, height), theme.paper)
    sheet.paste(Image.fromarray(image), (4, 4))
    pen = ImageDraw.Draw(sheet)
    best, worst = max(scores), min(scores)
    for k, (text, score) in enumerate(zip(texts, scores, strict=True)):
        y = 4 + k * LINE
        share = (score - worst) / (best - worst) if best > worst else 1.0
        colour = theme.colours[2] if k == 0 else theme.colours[1]
        pen.rectangle((SIDE + 16, y + 4, SIDE + 16 + BAR, y + LINE - 6), outline=theme.pale)
        if share > 0:
            pen.rectangle((SIDE + 16, y + 4, SIDE + 16 + round(BAR * share), y + LINE - 6), fill=colour)
        said = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
        pen.text((SIDE + BAR + 24, y + 3), f"{score:.3f}  {said}", fill=theme.ink, font=FONT)
    return np.asarray(sheet)
