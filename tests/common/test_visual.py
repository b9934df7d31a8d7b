"""Videos as strips of frames, and as files."""

import cv2
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.visual import filmstrip, to_frames, write_video


def test_films_and_files(tmp_path):
    video = torch.zeros(3, 6, 8, 8)
    video[0, 2] = 1
    frames = to_frames(video)
    assert frames.shape == (6, 8, 8, 3) and frames[2, 0, 0].tolist() == [255, 0, 0]
    strip = filmstrip([frames, frames], side=16)
    assert strip.shape == (2 * 18, 6 * 18, 3) and strip[0, 2 * 18].tolist() == [255, 0, 0]
    write_video(tmp_path / "a.gif", frames.repeat(4, 1).repeat(4, 2), rate=5)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3 and image.info["duration"] == 400  # equal frames are joined, their time kept
    write_video(tmp_path / "a.mp4", frames.repeat(4, 1).repeat(4, 2))
    reader = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    read = [reader.read()[1] for _ in range(6)]
    assert read[2][16, 16, 2] > 200 and read[3][16, 16, 2] < 50
    write_video(tmp_path / "B.GIF", frames)
    assert Image.open(tmp_path / "B.GIF").format == "GIF"
    with pytest.raises(UserError, match="0 frames a second"):
        write_video(tmp_path / "a.gif", frames, rate=0)
    with pytest.raises(UserError, match="neither .gif nor .mp4"):
        write_video(tmp_path / "a.avi", frames)
