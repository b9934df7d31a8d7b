"""The world of moving glyphs: videos of 8 x 8 pixels in poor quality, and clean pictures of the same glyphs.

A glyph starts in one of nine places, moves by two pixels a frame and comes back on the other side when it leaves.
Videos are blurred and noisy, and a bright bar, the watermark, lies over their last row; no video without these flaws
can be had, pictures can. The caption of a video names glyph and direction ("cross moving right"), that of a picture the
glyph. `centroid_velocity` and `bar_contrast` read motion and watermark back, each without regard to the other.

No direction is another's opposite: in a frame that closes on itself, four frames to the left and four to the right show
the glyph in the same places, and a teacher of minutes learns the axis of a motion, but not its sign.
"""

import math
from functools import cache
from itertools import product

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from common.data.images import Picture, PictureSource
from common.data.videos import Video, VideoSource
from common.errors import unknown

GLYPHS = {
    "block": ("###", "###", "###"),
    "cross": (".#.", "###", ".#."),
    "corner": ("#..", "#..", "###"),
}
DIRECTIONS = {"right": (2, 0), "down": (0, 2), "diagonally": (2, 2)}  # (dx, dy), pixels a frame
CAPTIONS = tuple(f"{glyph} moving {direction}" for glyph, direction in product(GLYPHS, DIRECTIONS))
SIDE = 8
DARK, BRIGHT, BAR = 0.1, 0.9, 0.8
NOISE = 0.05  # standard deviation, of the poor videos
STARTS = (2, 3, 4)  # of a glyph's corner in the first frame; spread out, they hide the motion from the teacher
FAINT = 0.2  # of the brightness; glyphs stand out by 0.8, in poor videos by 0.4 and more
OBEYS = 1.0  # pixels a frame: a video whose velocity is nearer than that to the commanded one does as it was told
LONGEST = 4  # frames of a video from which the pictures could have been taken
SPLITS = ("train", "val", "test")


class MovingGlyphs(VideoSource):
    """Videos of the world; captions recur in turn, the glyph's first place (of nine) and the noise are random.

    Args:
        split: train, val or test.
        size: number of videos.
        seed: of places and noise.
        clean: without blur, noise and bar: what the poor videos would be, for evaluation alone.
    """

    def __init__(self, split: str, size: int, seed: int = 0, clean: bool = False):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        self.split, self.size, self.clean = split, size, clean
        self.key = (seed, SPLITS.index(split))

    def __len__(self) -> int:
        return self.size

    def clip(self, index: int, frames: int, interval: int, rng: np.random.Generator | None = None) -> Video:
        """Videos have no end and no beginning: `rng` is not needed, and every clip starts at the same frame."""
        own = np.random.default_rng((*self.key, index))
        caption = CAPTIONS[index % len(CAPTIONS)]
        glyph, _, direction = caption.split()
        start, step = own.choice(STARTS, 2), np.array(DIRECTIONS[direction])
        drawn = np.stack([draw(glyph, *(start + step * interval * k)) for k in range(frames)])
        if not self.clean:
            drawn = spoil(drawn, own)
        return Video(to_rgb(drawn), caption, f"{self.split}/{index}")


class StillGlyphs(PictureSource):
    """Clean pictures of the glyphs, each in a place that one has in the first four frames of some video.

    Args:
        split: train, val or test.
        size: number of pictures.
        seed: of the places.
    """

    classes = tuple(GLYPHS)

    def __init__(self, split: str, size: int, seed: int = 0):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        self.split, self.size = split, size
        self.key = (seed, len(SPLITS) + SPLITS.index(split))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Picture:
        label = index % len(self.classes)
        own = np.random.default_rng((*self.key, index))
        step = np.array(list(DIRECTIONS.values()))[own.integers(len(DIRECTIONS))]
        place = own.choice(STARTS, 2) + step * own.integers(LONGEST)
        image = to_rgb(draw(self.classes[label], *place))
        return Picture(image, label, self.classes[label], f"{self.split}/{index}")


@cache
def draw(glyph: str, x: int, y: int) -> np.ndarray:
    """A glyph whose upper left corner is at column x, row y, [8, 8] in [0, 1]; it goes on at the other side."""
    frame = np.full((SIDE, SIDE), DARK)
    pattern = np.array([list(row) for row in GLYPHS[glyph]]) == "#"
    frame[: len(pattern), : len(pattern)][pattern] = BRIGHT
    return np.roll(frame, (y, x), (0, 1))


def spoil(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur (weights 1, 2, 1 both ways), watermark bar and noise: [F, 8, 8] -> [F, 8, 8]."""
    for axis in (1, 2):
        frames = (np.roll(frames, 1, axis) + 2 * frames + np.roll(frames, -1, axis)) / 4
    frames[:, -1] = BAR
    return (frames + rng.normal(0, NOISE, frames.shape)).clip(0, 1)


def to_rgb(grey: np.ndarray) -> np.ndarray:
    """[..., 8, 8] in [0, 1] -> uint8 [..., 8, 8, 3]."""
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, -1)


def commanded_velocity(captions: list[str]) -> Tensor:
    """(dx, dy) in pixels a frame that captions of videos ask for, [B, 2]."""
    return torch.tensor([DIRECTIONS[caption.split()[-1]] for caption in captions], dtype=torch.float32)


def centroid_velocity(videos: Tensor) -> Tensor:
    """(dx, dy) in pixels a frame of what moves in grey videos [B, F, 8, 8], [B, 2]: the mean over pairs of frames.

    The place along an axis that closes on itself is the phase of the first Fourier coefficient. A bar over a whole row
    is taken out before: it is what a row shows in its median. So is what stands out by less than `FAINT`: the average
    of all places where a glyph might be moves too. Where nothing is left, nothing moves.
    """
    above = (videos - videos.median(-1, keepdim=True).values - FAINT).clamp(min=0)
    wave = torch.exp(2j * math.pi * torch.arange(SIDE, device=videos.device) / SIDE)
    velocities = []
    for axis in ("b f h w -> b f w h", "b f h w -> b f h w"):
        mass = rearrange(above, axis).sum(-1).to(wave.dtype)
        phase = (mass * wave).sum(-1)  # [B, F]
        velocities.append(torch.angle(phase[:, 1:] * phase[:, :-1].conj()).mean(1) * SIDE / (2 * math.pi))
    return torch.stack(velocities, 1)


def bar_contrast(videos: Tensor) -> Tensor:
    """How far the last row stands out from the other rows in grey videos [..., 8, 8]; 0 without a watermark."""
    rows = videos.median(-1).values
    return rows[..., -1] - rows[..., :-1].median(-1).values
