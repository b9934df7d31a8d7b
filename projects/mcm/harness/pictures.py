"""Videos as strips of frames, and as files."""

from pathlib import Path

import cv2
import numpy as np
from einops import rearrange
from PIL import Image
from torch import Tensor

from common.errors import UserError

GAP = 2  # white pixels between frames


def to_frames(video: Tensor) -> np.ndarray:
    """A video [3, F, H, W] in [0, 1] as uint8 [F, H, W, 3]."""
    return (rearrange(video.float().cpu(), "c f h w -> f h w c").clamp(0, 1).numpy() * 255).round().astype(np.uint8)


def enlarged(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames of fewer pixels than `side` grown by a whole factor, with hard pixels."""
    factor = max(1, side // max(frames.shape[1:3]))
    return frames.repeat(factor, 1).repeat(factor, 2)


def filmstrip(videos: list[np.ndarray], side: int = 48) -> np.ndarray:
    """Videos uint8 [F, H, W, 3] as rows, their frames beside each other: uint8 [rows * H', F * W', 3]."""
    rows = []
    for frames in videos:
        large = np.pad(enlarged(frames, side), ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
        rows.append(rearrange(large, "f h w c -> h (f w) c"))
    return np.concatenate(rows)


def write_video(path: Path, frames: np.ndarray, rate: float = 8.0) -> None:
    """Write uint8 [F, H, W, 3] as GIF or MP4, by the file's ending; `rate` in frames a second.

    Raises:
        UserError: another ending, or a place that cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / rate), loop=0)
    elif path.suffix == ".mp4":
        height, width = (side - side % 2 for side in frames.shape[1:3])  # the codec wants even sides
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not writer.isOpened():
            raise UserError(f"{path} cannot be written: OpenCV has no encoder for MP4 here. Choose a .gif.")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        writer.release()
    else:
        raise UserError(f"{path}: the ending says neither .gif nor .mp4")
