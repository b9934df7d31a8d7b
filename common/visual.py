"""Pictures for reports: masks and prompts drawn onto images, videos as strips of frames and as files."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont

from common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

GAP = 2  # white pixels between frames
FONT = ImageFont.load_default(13)
INK, PAPER, GRID = (40, 40, 40), (255, 255, 255), (225, 225, 225)
COLORS = np.array(
    [
        (230, 80, 60),
        (50, 130, 220),
        (60, 170, 90),
        (240, 180, 40),
        (150, 90, 200),
        (30, 180, 190),
        (230, 110, 170),
        (130, 110, 90),
    ]
)


class Themed(NamedTuple):
    """A picture for light pages and the same for dark ones, uint8 RGB [H, W, 3] each."""

    light: np.ndarray
    dark: np.ndarray


def enlarge(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The image scaled so that its longer side nears `side` pixels, and the factor.

    Small images grow by whole multiples with hard pixels, large ones shrink smoothly.
    """
    longest = max(image.shape[:2])
    factor = max(1, side // longest) if longest <= side else side / longest
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    kind = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(image).resize(size, kind)), factor


def draw_masks(image: np.ndarray, masks: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Masks bool [K, h, w] over a dimmed image uint8 [H, W, 3], a colour each, with outlines."""
    drawn = image.astype(np.float32) * 0.6
    for color, mask in zip(np.resize(COLORS, (len(masks), 3)), masks, strict=True):
        large = np.array(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))
        inner = large.copy()
        inner[1:] &= large[:-1]
        inner[:-1] &= large[1:]
        inner[:, 1:] &= large[:, :-1]
        inner[:, :-1] &= large[:, 1:]
        drawn[large] = (1 - opacity) * drawn[large] + opacity * color
        drawn[large & ~inner] = color
    return drawn.clip(0, 255).astype(np.uint8)


def draw_prompts(
    image: np.ndarray, coords: np.ndarray, boxes: np.ndarray | None, labels: np.ndarray | None = None
) -> np.ndarray:
    """Points (x, y) [N, P, 2] as dots and boxes [N, 4] as frames, in `draw_masks`' colours of the same objects.

    Points whose label [N, P] is 0 (background) are white with a coloured rim.
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    count = len(coords)
    for n, color in enumerate(np.resize(COLORS, (count, 3)).tolist()):
        for p, (x, y) in enumerate(coords[n].tolist()):
            fill, rim = tuple(color), (255, 255, 255)
            if labels is not None and labels[n, p] == 0:
                fill, rim = rim, fill
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=fill, outline=rim, width=2)
        if boxes is not None:
            pen.rectangle(boxes[n].tolist(), outline=tuple(color), width=3)
    return np.array(picture)


def to_frames(video: "Tensor") -> np.ndarray:
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
        UserError: another ending, a rate that no player has, or a place that cannot be written.
    """
    if not 0 < rate <= 100:
        raise UserError(f"{rate:g} frames a second: more than 0 and at most 100 can be shown")
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if ending == ".gif":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / rate), loop=0)
    elif ending == ".mp4":
        import cv2

        height, width = (side - side % 2 for side in frames.shape[1:3])  # the codec wants even sides
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not writer.isOpened():
            raise UserError(f"{path} cannot be written: OpenCV has no encoder for MP4 here. Choose a .gif.")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        writer.release()
    else:
        raise UserError(f"{path}: the ending says neither .gif nor .mp4")
