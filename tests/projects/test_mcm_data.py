"""MCM's data: the world of moving glyphs, videos in tars, clips, crops and pictures, files of videos."""

import io
import json
import tarfile
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image

from common.data.readers.captioned_tars import CaptionedTars
from common.data.readers.video_tars import VideoTars, decode_clip
from common.data.scene import UnreadableSample
from common.data.videos import clip_positions
from common.data.worlds.moving_glyphs import (
    BAR,
    CAPTIONS,
    DARK,
    SPLITS,
    MovingGlyphs,
    StillGlyphs,
    bar_contrast,
    blurred,
    centroid_velocity,
    commanded_velocity,
    split_of,
)
from common.errors import UserError
from common.rehearsal.videos import make_video_tar
from projects.mcm.data import VideoSamples, collate, cropped, segment_frames, to_float
from projects.mcm.model import PixelCodec


def world(clean, split="test", size=90):
    source = MovingGlyphs(split, size, clean=clean)
    clips = [source.clip(index, 4, 1) for index in range(size)]
    frames = np.stack([clip.frames[..., 0] for clip in clips])
    return torch.from_numpy(frames).float() / 255, [clip.caption for clip in clips]


def motion_error(videos, captions):
    return (centroid_velocity(videos) - commanded_velocity(captions)).norm(dim=1)


def test_every_caption_is_drawn_and_what_is_drawn_moves_as_it_says():
    videos, captions = world(clean=True)
    assert set(captions) == set(CAPTIONS)
    assert motion_error(videos, captions).max() == 0
    assert bar_contrast(videos).abs().max() < 1e-6


NOISE = 0.05 * torch.randn(90, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def poor(videos, contrast, every=1):
    """Blurred, fainter, with every so-manieth pixel of the bar, noisy."""
    faint = contrast * (torch.from_numpy(blurred(videos.numpy())) - DARK) + DARK
    faint[:, :, -1, ::every] = BAR
    return (faint + NOISE).clamp(0, 1)


@pytest.mark.parametrize("contrast", [1.0, 0.8, 0.6, 0.5, 0.4])
def test_motion_is_read_whatever_contrast_blur_noise_and_watermark(contrast):
    videos, captions = world(clean=True)
    sharp = contrast * (videos - DARK) + DARK + NOISE
    for seen in (sharp, poor(videos, contrast), poor(videos, contrast, every=2), 0.5 + 0.4 * sharp):
        assert motion_error(seen, captions).mean() < 0.05


def test_the_floor_of_motion_is_that_of_a_video_without_any():
    videos, captions = world(clean=True)
    floor = commanded_velocity(captions).norm(dim=1).mean()  # 2.28
    mean = videos.mean(0, keepdim=True).expand_as(videos)
    for nothing in (videos[:, :1].expand_as(videos), torch.full_like(videos, 0.3)):
        assert motion_error(nothing, captions).mean() == pytest.approx(float(floor))
    assert motion_error(mean, captions).mean() > 1.5 and motion_error(torch.rand_like(videos), captions).mean() > 2
    assert motion_error(videos.flip(1), captions).mean() > floor


def test_the_watermark_is_read_whatever_the_glyph_does_and_in_dashes_too():
    videos, _ = world(clean=True)
    for contrast in (1.0, 0.5):
        assert (bar_contrast(poor(videos, contrast)).mean() - 0.7).abs() < 0.02
        assert (bar_contrast(poor(videos, contrast, every=2)).mean() - 0.35).abs() < 0.05
        assert bar_contrast(contrast * (videos - DARK) + DARK + NOISE).abs().mean() < 0.03  # the floor of noise
    assert bar_contrast(torch.full_like(videos, 0.3)).abs().max() == 0


def test_no_video_of_a_split_is_one_of_another_and_none_lacks_a_part():
    distinct = {split: {v.numpy().tobytes() for v in world(True, split, 450)[0]} for split in SPLITS}
    assert {split: len(found) for split, found in distinct.items()} == {"train": 45, "val": 9, "test": 27}
    assert len(set.union(*distinct.values())) == 81
    for split in SPLITS:
        assert set(world(True, split)[1]) == set(CAPTIONS)
    whole = list(product(range(3), repeat=4))  # glyph, direction, column, row
    for kept in ((0, 1), (0, 2, 3), (1, 2, 3)):  # pairs of parts, a first place counting as one
        tested = Counter(tuple(part[k] for k in kept) for part in whole if split_of(*part) == "test")
        assert len(set(tested.values())) == 1 and len(tested) == 3 ** len(kept)


def test_splits_differ_and_a_larger_one_begins_with_the_smaller():
    first = MovingGlyphs("train", 12).clip(3, 6, 1).frames
    assert np.array_equal(first, MovingGlyphs("train", 24).clip(3, 6, 1).frames)
    assert not np.array_equal(first, MovingGlyphs("val", 12).clip(3, 6, 1).frames)
    with pytest.raises(UserError, match="unknown split 'tset'"):
        MovingGlyphs("tset", 12)


def test_pictures_are_clean_and_labelled():
    source = StillGlyphs("train", 9)
    pictures = [source[index] for index in range(9)]
    assert {p.caption for p in pictures} == set(StillGlyphs.classes)
    assert all(set(np.unique(p.image)) == {26, 230} for p in pictures)
    assert all(StillGlyphs.classes[p.label] == p.caption for p in pictures)


@pytest.mark.parametrize(
    "length, frames, interval, expected",
    [
        (24, 4, 4, [5, 9, 13, 17]),  # from the middle
        (8, 4, 4, [0, 2, 4, 6]),  # too short: closer together
        (3, 4, 4, [0, 1, 2, 2]),  # shorter still: stands at its end
    ],
)
def test_clips_fit_their_video(length, frames, interval, expected):
    assert clip_positions(length, frames, interval).tolist() == expected
    rng = np.random.default_rng(0)
    starts = {int(clip_positions(24, 4, 4, rng)[0]) for _ in range(200)}
    assert starts == set(range(12))


def test_videos_are_read_from_tars_where_they_lie(tmp_path):
    make_video_tar(tmp_path / "00000.tar", videos=2, frames=12)
    make_video_tar(tmp_path / "00001.tar", videos=2, frames=12, first=2)
    source = VideoTars(str(tmp_path))
    assert (
        len(source) == 4 and len(VideoTars(str(tmp_path), first=1)) == 2 and len(VideoTars(str(tmp_path), limit=3)) == 3
    )
    clip = source.clip(2, frames=4, interval=2)
    assert clip.frames.shape == (4, 72, 128, 3) and clip.frames.dtype == np.uint8 and clip.caption
    assert clip.caption == VideoTars(str(tmp_path), first=1).clip(0, 4, 2).caption
    # scenes glide two pixels a frame to the right: four pixels in an interval of two
    moved = np.roll(clip.frames[0].astype(int), 4, 1)[:, 16:-16]
    assert (
        np.abs(moved - clip.frames[1][:, 16:-16]).mean()
        < 0.5 * np.abs(clip.frames[0].astype(int) - clip.frames[1]).mean()
    )


def test_damaged_videos_are_named_and_passed_over(tmp_path):
    make_video_tar(tmp_path / "good.tar", videos=1)
    with tarfile.open(tmp_path / "good.tar") as tar:
        content = tar.extractfile(tar.getmembers()[0]).read()
    with pytest.raises(UnreadableSample, match="some name"):
        decode_clip(content[: len(content) // 2], "some name", 4, 1, None)
    with pytest.raises(UserError, match="no tars number 3 to the end"):
        VideoTars(str(tmp_path), first=3)
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    with pytest.raises(UserError, match="hold no <key>.mp4 with a <key>.json"):
        VideoTars(str(tmp_path), first=1)


def test_captions_of_images_lie_in_text_or_in_json(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "png")
    record = json.dumps({"caption": " a fox ", "url": None}).encode()
    files = {"a.png": picture.getvalue(), "a.json": record, "b.png": picture.getvalue(), "b.json": record}
    files |= {"b.txt": b"a hare", "c.png": picture.getvalue(), "c.json": b"{}", "d.png": picture.getvalue()}
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    source = CaptionedTars(str(tmp_path))
    assert [source[0].caption, source[1].caption] == ["a fox", "a hare"] and len(source) == 3
    with pytest.raises(UnreadableSample, match="no caption"):
        source[2]


def test_one_crop_for_all_frames_of_a_clip():
    frames = torch.rand(1, 3, 20, 30).expand(5, -1, -1, -1)
    found = cropped(frames, 16, 0.75, np.random.default_rng(0))
    assert found.shape == (5, 3, 16, 16) and all(torch.equal(found[0], frame) for frame in found)
    whole = cropped(frames[..., 5:25], 20, 1.0, None)
    assert torch.equal(whole, frames[..., 5:25])


def test_pictures_come_from_the_image_set_or_from_segments_of_the_clip():
    videos, images = MovingGlyphs("train", 12), StillGlyphs("train", 6)
    sample = VideoSamples(videos, images, 6, 1, 8, 1.0, 2).draw(1, np.random.default_rng(0))
    assert sample["video"].shape == (3, 6, 8, 8) and sample["images"].shape == (2, 3, 8, 8)
    assert set(sample["image_captions"]) <= set(StillGlyphs.classes)
    own = VideoSamples(videos, None, 6, 1, 8, 1.0, 2).draw(1, np.random.default_rng(0))
    assert own["image_captions"] == [own["caption"]] * 2
    frames = rearrange(own["video"], "c f h w -> f c h w")
    where = [[torch.equal(image, frame) for frame in frames].index(True) for image in own["images"]]
    assert where[0] in (0, 1, 2) and where[1] in (3, 4, 5)
    drawn = {tuple(segment_frames(6, 2, np.random.default_rng(k))) for k in range(60)}
    assert drawn == {(a, b) for a in range(3) for b in range(3, 6)}
    batch = collate([sample, sample])
    assert batch["images"].shape == (2, 2, 3, 8, 8) and batch["image_captions"] == 2 * sample["image_captions"]


def test_the_codec_of_pixels_loses_nothing():
    images = torch.rand(2, 1, 8, 8).expand(-1, 3, -1, -1) * 2 - 1
    latents = PixelCodec().encode(images)
    assert latents.shape == (2, 4, 4, 4)
    torch.testing.assert_close(PixelCodec().decode(latents), images)


def test_features_to_float():
    frames = np.full((2, 4, 5, 3), 255, np.uint8)
    assert to_float(frames).shape == (2, 3, 4, 5) and to_float(frames).max() == 1
