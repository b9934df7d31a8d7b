"""Captioned videos in tars, as webdataset keeps them: `<key>.mp4` and `<key>.json` side by side (WebVid)."""

from tempfile import NamedTemporaryFile

import cv2
import numpy as np
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.archives import PairedTars, tars_in
from common.data.checks import try_source
from common.data.records import Words
from common.data.scene import UnreadableSample
from common.data.videos import Video, VideoSource, clip_positions
from common.errors import UserError
from common.schemas import STRICT, parse

VIDEOS = ("mp4", "webm", "mkv", "avi")


@schema(config=STRICT, slots=True)
class Facts:
    caption: Words


FACTS = TypeAdapter(Facts)


class VideoTars(VideoSource):
    """Videos with captions of a range of tars, read where they lie; samples without either are left out.

    Args:
        root: folder of the tars; `$DATA_ROOT` is replaced.
        first: position of the first tar in alphabetical order.
        last: position behind the last one; None for all that follow.
        limit: how many videos are used, from the first on; None for all.

    Raises:
        UserError: no such tars, a damaged one, or no captioned videos in them.
    """

    def __init__(self, root: str, first: int = 0, last: int | None = None, limit: int | None = None):
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: at least one video is needed")
        self.samples = PairedTars(root, first, last, VIDEOS, ("json",))
        self.size = len(self.samples) if limit is None else min(limit, len(self.samples))

    @classmethod
    def check(cls, root: str, first: int = 0, last: int | None = None, **_: object) -> None:
        """Try the first and the last of the tars."""
        count = len(tars_in(root, first, last))
        for number in {first, first + count - 1}:
            try_source(cls(root, number, number + 1))

    def __len__(self) -> int:
        return self.size

    def clip(self, index: int, frames: int, interval: int, rng: np.random.Generator | None = None) -> Video:
        content, text, name = self.samples.read(index, "video")
        caption = read_caption(text, name)
        return Video(decode_clip(content, name, frames, interval, rng), caption, name)


def read_caption(content: bytes, name: str) -> str:
    """The caption of a sample's JSON file."""
    try:
        return parse(FACTS, content).caption.strip()
    except ValueError as error:
        raise UnreadableSample(name, f"its .json has no caption ({error})") from error


def decode_clip(
    content: bytes, name: str, frames: int, interval: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """A clip of an encoded video as uint8 RGB [F, H, W, 3]; see `VideoSource.clip`.

    Frames are decoded one after the other up to the last one that is wanted: seeking lands on key frames only.

    Raises:
        UnreadableSample: not a video, or it ends before its header says.
    """
    with NamedTemporaryFile(suffix=".mp4") as file:  # OpenCV crashes on files in memory (5.0)
        file.write(content)
        file.flush()
        reader = cv2.VideoCapture(file.name, cv2.CAP_FFMPEG)
        try:
            return _decode(reader, name, frames, interval, rng)
        except (cv2.error, MemoryError, ValueError, OverflowError) as error:
            raise UnreadableSample(name, f"cannot be decoded as a video ({error})") from error
        finally:
            reader.release()


def _decode(
    reader: cv2.VideoCapture, name: str, frames: int, interval: int, rng: np.random.Generator | None
) -> np.ndarray:
    length = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    if length < 1:
        raise UnreadableSample(name, "cannot be decoded as a video")
    wanted = clip_positions(length, frames, interval, rng).tolist()
    found: dict[int, np.ndarray] = {}
    for position in range(wanted[-1] + 1):
        if not reader.grab():
            raise UnreadableSample(name, f"ends after {position} of {length} frames")
        if position in wanted:
            whole, frame = reader.retrieve()
            if not whole or (found and frame.shape[:2] != next(iter(found.values())).shape[:2]):
                raise UnreadableSample(name, f"frame {position} of {length} is damaged")
            found[position] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return np.stack([found[position] for position in wanted])
