"""The world of moving glyphs: videos of 8 x 8 pixels in poor quality, and clean pictures of the same glyphs.

A glyph starts in one of nine places, moves by two pixels a frame and comes back on the other side when it leaves.
Videos are blurred and noisy, and a bright bar, the watermark, lies over their last row; no video without these flaws
can be had, pictures can. The caption of a video names glyph and direction ("cross moving right"), that of a picture the
glyph. `centroid_velocity` and `bar_contrast` read motion and watermark back, each without regard to the other.

Of the 81 combinations of glyph, direction and first place each belongs to one split (`split_of`), so that no video of
a split is that of another with other noise. Pictures show every place in every split: were places held out, a
discriminator could tell generated frames by the place of their glyph.

No direction is another's opposite: in a frame that closes on itself, four frames to the left and four to the right show
the glyph in the same places, and a teacher of minutes learns the axis of a motion, but not its sign.
"""

from functools import cache
from itertools import product

import numpy as np
import torch
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
FLAT = 1e-3  # frames whose pixels are closer than that to their mean (root of the summed squares) show nothing
OBEYS = 1.0  # pixels a frame: a video whose velocity is nearer than that to the commanded one does as it was told
LONGEST = 4  # frames of a video from which the pictures could have been taken
SPLITS = ("train", "val", "test")


class MovingGlyphs(VideoSource):
    """Videos of the world; captions recur in turn, the glyph's first place (of the split's) and the noise are random.

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
        start, step = own.choice(starts(self.split, glyph, direction)), np.array(DIRECTIONS[direction])
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


def split_of(glyph: int, direction: int, column: int, row: int) -> str:
    """The split of a combination, whose parts are numbered from 0: 27 for testing, 9 for validation, 45 to train on.

    In the test split every glyph has all directions and all first places, and every direction has all of these, equally
    often: only the three together are new.
    """
    rest = (glyph + direction + column + row) % 3
    if rest == 0:
        return "test"
    return "val" if rest == 1 and column == (glyph - direction) % 3 else "train"


@cache
def starts(split: str, glyph: str, direction: str) -> np.ndarray:
    """The first places (x, y) that a glyph with this direction has in a split, [N, 2]."""
    names = list(GLYPHS).index(glyph), list(DIRECTIONS).index(direction)
    places = product(range(len(STARTS)), repeat=2)
    return np.array([[STARTS[c], STARTS[r]] for c, r in places if split_of(*names, c, r) == split])


@cache
def draw(glyph: str, x: int, y: int) -> np.ndarray:
    """A glyph whose upper left corner is at column x, row y, [8, 8] in [0, 1]; it goes on at the other side."""
    frame = np.full((SIDE, SIDE), DARK)
    pattern = np.array([list(row) for row in GLYPHS[glyph]]) == "#"
    frame[: len(pattern), : len(pattern)][pattern] = BRIGHT
    return np.roll(frame, (y, x), (0, 1))


def spoil(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, watermark bar and noise: [F, 8, 8] -> [F, 8, 8]."""
    frames = blurred(frames)
    frames[:, -1] = BAR
    return (frames + rng.normal(0, NOISE, frames.shape)).clip(0, 1)


def blurred(frames: np.ndarray) -> np.ndarray:
    """Every pixel with its neighbours, weights 1, 2, 1 both ways: [..., 8, 8] -> [..., 8, 8]."""
    for axis in (-2, -1):
        frames = (np.roll(frames, 1, axis) + 2 * frames + np.roll(frames, -1, axis)) / 4
    return frames


def to_rgb(grey: np.ndarray) -> np.ndarray:
    """[..., 8, 8] in [0, 1] -> uint8 [..., 8, 8, 3]."""
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, -1)


def commanded_velocity(captions: list[str]) -> Tensor:
    """(dx, dy) in pixels a frame that captions of videos ask for, [B, 2]."""
    return torch.tensor([DIRECTIONS[caption.split()[-1]] for caption in captions], dtype=torch.float32)


def centroid_velocity(videos: Tensor) -> Tensor:
    """(dx, dy) in pixels a frame of the glyph in grey videos [B, F, 8, 8], [B, 2]: the mean over pairs of frames.

    The glyph is where its pattern fits best (see `fits`): how bright, sharp or noisy it is does not matter, nor what is
    in the watermark's row. Which of the patterns it is holds for the whole video. A way of half a frame counts as one
    to the left or up. Where nothing is seen, nothing moves.
    """
    found = fits(videos)  # [B, F, glyphs, 64]
    glyph = found.amax(-1).sum(1).argmax(1)  # [B]
    place = found[torch.arange(len(videos), device=videos.device), :, glyph].argmax(-1)  # [B, F]
    position = torch.stack([place % SIDE, place // SIDE], -1)
    step = (position.diff(dim=1) + SIDE // 2) % SIDE - SIDE // 2
    return step.float().mean(1)


def bar_contrast(videos: Tensor) -> Tensor:
    """How much of the watermark grey frames [..., 8, 8] show, [...]: what the last row's pixels have above the median
    of the other rows, on average; where the glyph is, none count. 0 without a watermark, half for every second pixel.
    """
    footprint, place = footprints().to(videos.device), fits(videos).flatten(-2).argmax(-1)
    free = ~footprint.flatten(0, 1)[place]  # [..., 8, 8]
    background = videos.where(free, torch.nan)[..., :-1, :].flatten(-2).nanmedian(-1).values
    return videos.where(free, torch.nan)[..., -1, :].nanmean(-1) - background


def fits(frames: Tensor) -> Tensor:
    """How well each glyph fits in each place of grey frames [..., 8, 8]: correlation from -1 to 1, [..., glyphs, 64].

    The watermark's row is left out, of the frames and of the blurred pattern. A frame without contrast fits nowhere: 0.
    """
    seen = frames[..., :-1, :].flatten(-2)
    seen = seen - seen.mean(-1, keepdim=True)
    size = seen.norm(dim=-1, keepdim=True)
    seen = torch.where(size > FLAT, seen / size.clamp(min=FLAT), 0.0)
    return torch.einsum("...p,gnp->...gn", seen, patterns().to(seen))


@cache
def patterns() -> Tensor:
    """Blurred glyphs in all 64 places, row by row, without the last row: of mean 0 and length 1, [glyphs, 64, 56]."""
    found = torch.from_numpy(everywhere())[..., :-1, :].flatten(-2)
    found = found - found.mean(-1, keepdim=True)
    return (found / found.norm(dim=-1, keepdim=True)).float()


@cache
def footprints() -> Tensor:
    """Which pixels a blurred glyph touches in each place, bool [glyphs, 64, 8, 8]."""
    return torch.from_numpy(everywhere() > DARK + 1e-6)


def everywhere() -> np.ndarray:
    """Blurred glyphs in all places, [glyphs, 64, 8, 8]."""
    places = [(x, y) for y in range(SIDE) for x in range(SIDE)]
    return np.stack([[blurred(draw(glyph, x, y)) for x, y in places] for glyph in GLYPHS])
