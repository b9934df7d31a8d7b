"""Captioned videos: what every source of them yields."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass
class Video:
    """Some frames of a video with what is said of it.

    Attributes:
        frames: uint8 RGB, [F, H, W, 3].
        caption: "" where there is none.
        name: unique within its source.
    """

    frames: np.ndarray
    caption: str
    name: str


class VideoSource(ABC):
    """A random-access collection of videos."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def clip(self, index: int, frames: int, interval: int, rng: np.random.Generator | None = None) -> Video:
        """`frames` frames of video `index`, `interval` apart; the same arguments give the same ones.

        A video that is too short for that has a smaller interval, in the end 1, and stands still at its end.

        Args:
            rng: of the first frame's place; None takes the middle of the video.

        Raises:
            UnreadableSample: the file cannot be decoded.
        """


def clip_positions(length: int, frames: int, interval: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Which frames of a video of `length` make up a clip, int64 [frames], ascending; see `VideoSource.clip`."""
    interval = max(1, min(interval, (length - 1) // max(1, frames - 1)))
    slack = max(0, length - 1 - interval * (frames - 1))
    start = slack // 2 if rng is None else int(rng.integers(slack + 1))
    return np.minimum(start + interval * np.arange(frames), length - 1)
