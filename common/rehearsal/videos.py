"""Stand-ins for video data sets: made-up MP4 files with captions in tars, as webdataset keeps WebVid."""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from common.rehearsal.datasets import make_sentences
from common.rehearsal.sa1b import make_scene


def make_video_tar(
    path: Path, videos: int = 4, resolution: tuple[int, int] = (72, 128), frames: int = 24, first: int = 0
) -> None:
    """Write a shard: `<key>.mp4` and `<key>.json` in a tar, key by key; each video is a scene that glides sideways.

    Args:
        resolution: (H, W) in pixels, even; WebVid has 336 x 596.
        frames: of a video; WebVid's have some 450.
        first: number of the first video.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(first, first + videos):
            [caption] = make_sentences(1, first=number)
            facts = json.dumps({"caption": caption, "videoid": number}).encode()
            for suffix, content in (("mp4", _mp4(number, resolution, frames)), ("json", facts)):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))


def _mp4(number: int, resolution: tuple[int, int], frames: int) -> bytes:
    scene = make_scene(number, resolution)[0][..., ::-1]
    with TemporaryDirectory() as folder:
        file = Path(folder, "video.mp4")
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 24, resolution[::-1])
        for k in range(frames):
            writer.write(np.ascontiguousarray(np.roll(scene, 2 * k, 1)))
        writer.release()
        return file.read_bytes()
