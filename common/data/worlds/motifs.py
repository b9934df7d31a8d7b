"""The world of motifs: grey pictures of 24 x 24 pixels that are told apart by a small part of them, wherever it stands.

A picture is a grid of 6 x 6 tokens of 4 x 4 pixels. One of ten motifs, fixed random patterns of 2 x 2 tokens, stands
whole at a random place: its number is the label. Quarters of other motifs stand elsewhere, so that no single token
tells the class, and noise lies over all. Where a network looks matters, and it has to look anew at every picture.

On demand a grating lies under everything, in patches of several tokens: horizontal, vertical or one of two diagonals.
`gratings(index)` has it token by token: a label of every token that is independent of the picture's.
"""

from functools import cache

import numpy as np

from common.data.images import Picture, PictureSource
from common.errors import UserError, unknown

CLASSES = tuple(f"motif {number}" for number in range(10))
GRATINGS = ("horizontal", "vertical", "falling", "rising")
SPLITS = ("train", "val", "test")
TOKEN, GRID, MOTIF = 4, 6, 2
"""Side of a token in pixels; of the grid, and of a motif, in tokens."""
SIDE = TOKEN * GRID
GREY, CONTRAST = 128, 36
"""An empty pixel, and how far black and white of a motif lie from it: noise of a deviation up to 0.8 is hardly cut."""
PATCHES = 3
"""Of gratings in a picture, at most."""


class Motifs(PictureSource):
    """Pictures of the world.

    Args:
        split: train, val or test; they differ in places, distractors and noise, the motifs are the same.
        size: number of pictures; a larger split begins with the pictures of a smaller one.
        seed: which motifs, and which pictures.
        noise: standard deviation of what is added to every pixel, over a motif's contrast.
        distractors: quarters of other motifs.
        grating: contrast of the gratings, over a motif's; 0 leaves them out.
    """

    classes = CLASSES

    def __init__(
        self, split: str, size: int, seed: int = 0, noise: float = 0.6, distractors: int = 6, grating: float = 0.0
    ):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        room = GRID**2 - MOTIF**2
        if size < 1 or seed < 0 or noise < 0 or grating < 0 or not 0 <= distractors <= room:
            raise UserError(
                f"the world of motifs: size from 1, seed, noise and grating from 0, distractors from 0 to {room}"
            )
        self.split, self.size, self.seed = split, size, seed
        self.noise, self.distractors, self.grating = noise, distractors, grating

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        rng = self.generator(index, 0)
        label = int(rng.integers(len(CLASSES)))
        motif, own = quarters(self.seed)[label], np.zeros((GRID, GRID, TOKEN, TOKEN))
        row, column = rng.integers(GRID - MOTIF + 1, size=2)
        own[row : row + MOTIF, column : column + MOTIF] = motif
        free = np.ones((GRID, GRID), bool)
        free[row : row + MOTIF, column : column + MOTIF] = False
        for place in rng.choice(np.argwhere(free), self.distractors, replace=False):
            other = (label + rng.integers(1, len(CLASSES))) % len(CLASSES)
            own[tuple(place)] = quarters(self.seed)[other][tuple(rng.integers(MOTIF, size=2))]
        drawn = own.swapaxes(1, 2).reshape(SIDE, SIDE)
        if self.grating:
            kinds = self.gratings(index).repeat(TOKEN, 0).repeat(TOKEN, 1)
            drawn = drawn + self.grating * waves()[kinds, np.arange(SIDE)[:, None], np.arange(SIDE)]
        drawn = drawn + rng.normal(0, self.noise, drawn.shape)
        grey = (GREY + CONTRAST * drawn).round().clip(0, 255).astype(np.uint8)
        image = np.repeat(grey[..., None], 3, -1)
        return Picture(image, label, CLASSES[label], f"{self.split}/{index}")

    def place(self, index: int) -> tuple[int, int]:
        """Row and column of the motif's first token."""
        rng = self.generator(index, 0)
        rng.integers(len(CLASSES))
        row, column = rng.integers(GRID - MOTIF + 1, size=2)
        return int(row), int(column)

    def gratings(self, index: int) -> np.ndarray:
        """Which grating lies under each token, as numbers in GRATINGS, int64 [6, 6]: that of the nearest of a few
        centres."""
        rng = self.generator(index, 1)
        centres = rng.uniform(0, GRID - 1, (PATCHES, 2))
        kinds = rng.integers(len(GRATINGS), size=PATCHES)
        places = np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID), indexing="ij"), -1)
        distances = np.linalg.norm(places[:, :, None] - centres, axis=-1)
        return kinds[distances.argmin(-1)]

    def generator(self, index: int, what: int) -> np.random.Generator:
        """Chance of a picture (0) or of its gratings (1)."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        return np.random.default_rng((self.seed, SPLITS.index(self.split), int(index), what))


@cache
def quarters(seed: int) -> np.ndarray:
    """The motifs, each as its tokens: -1 or 1, [10, 2, 2, 4, 4]."""
    rng = np.random.default_rng((seed, len(SPLITS)))
    return rng.choice((-1.0, 1.0), (len(CLASSES), MOTIF, MOTIF, TOKEN, TOKEN))


@cache
def waves() -> np.ndarray:
    """The gratings over a whole picture: sines with a period of a token, [4, 24, 24]."""
    y, x = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    return np.sin(2 * np.pi / TOKEN * np.stack([y, x, y + x, y - x]) + np.pi / 4)
