"""What the report shows: pictures of the domain with the class that each arm names, and how sure it is."""

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from common.data.images import to_uint8
from common.visual import FONT, INK, PAPER, enlarge

CAPTION = "Test pictures, the class that is named among all, and its probability; red where it is another one's"
SHOWN, COLUMNS, SIDE, LINE, WRONG = 12, 6, 112, 17, (200, 40, 40)


def of_answers(images: Tensor, labels: Tensor, scores: Tensor, classes: list[str]) -> np.ndarray:
    """The first pictures with what is answered.

    Args:
        images: [B, 3, S, S] in [0, 1].
        labels: [B].
        scores: probabilities of the classes, [B, N].
    """
    count = min(SHOWN, len(images))
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + 8), rows * (SIDE + 2 * LINE + 8)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, picture in enumerate(to_uint8(images[:count])):
        x, y = k % COLUMNS * (SIDE + 8) + 4, k // COLUMNS * (SIDE + 2 * LINE + 8) + 4
        sheet.paste(Image.fromarray(enlarge(picture, SIDE)[0]), (x, y))
        best = int(scores[k].argmax())
        ink = INK if best == int(labels[k]) else WRONG
        pen.text((x, y + SIDE), classes[best][:17], ink, FONT)
        pen.text((x, y + SIDE + LINE), f"{float(scores[k, best]):.2f}", ink, FONT)
    return np.array(sheet)
