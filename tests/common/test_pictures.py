"""Pictures of the kinds that people have, read as they look."""

import os
import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from common.data.pictures import decode_picture, picture_files, read_picture
from common.errors import UserError

Y, X = np.mgrid[:60, :90]
RAMP = (X / 89 * 255).astype(np.uint8)  # a grey ramp, 8 bits
RGB = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 90)], -1)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    content = BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(content, kind, **options)
    return content.getvalue()


def shades(content: bytes) -> np.ndarray:
    """A grey picture's one channel, int [H, W]."""
    pixels = decode_picture(content)
    assert pixels.dtype == np.uint8 and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bits_look_like_8(kind):
    assert np.abs(shades(encoded(RAMP.astype(np.uint16) * 257, kind)) - RAMP).max() <= 1


def test_big_endian_16_bits_look_like_8():
    wide = Image.fromarray(RAMP.astype(np.uint16) * 257)
    swapped = Image.frombytes("I;16B", wide.size, np.asarray(wide).astype(">u2").tobytes())
    assert np.array_equal(shades(encoded(swapped, "TIFF")), RAMP)


@pytest.mark.parametrize(
    "values",
    [
        (RAMP / 255).astype(np.float32),  # 0 to 1
        RAMP.astype(np.float32),  # an array of 8-bit greys that has become one of floats
        (RAMP / 255 * 0.02).astype(np.float32),  # metres
        (RAMP / 255 * 2 - 1).astype(np.float32),  # what a network yields
        (RAMP.astype(np.int32) * 16 - 1024),  # Hounsfield units
        (RAMP.astype(np.int32) * 1000 + 10**9),
        (RAMP.astype(np.uint16) * 16),  # 12 bits of a camera
        RAMP.astype(np.uint16),
    ],
)
def test_deep_pictures_are_neither_black_nor_white(values):
    assert np.abs(shades(encoded(values, "TIFF")) - RAMP).max() <= 1


def tiff(values: np.ndarray) -> bytes:
    """Greys [H, W] of any type as an uncompressed TIFF: Pillow writes only some of them."""
    kinds = {"u": 1, "i": 2, "f": 3}
    (height, width), bits = values.shape, 8 * values.dtype.itemsize
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: values.nbytes}
    tags[339] = kinds[values.dtype.kind]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + values.nbytes
    return struct.pack("<2sHI", b"II", 42, start) + values.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("kind", ["<u1", "<i1", "<u2", "<i4", "<u4", "<f4"])
def test_greys_of_every_type_keep_their_order(kind):
    top = 1.0 if kind == "<f4" else float(np.iinfo(kind).max)
    greys = decode_picture(tiff((np.linspace(0, 1, 64) * top).astype(kind).reshape(4, 16)))[..., 0].ravel()
    assert greys[0] == 0 and greys[-1] == 255 and (np.diff(greys.astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", ["<f8", "<f2", "<u8"])
def test_a_rare_tiff_is_said_to_be_one(kind):
    with pytest.raises(ValueError, match="TIFF of a rare kind: save it"):
        decode_picture(tiff(np.ones((4, 16), kind)))


def test_no_other_program_is_started_for_a_picture(monkeypatch):
    content = encoded(Image.new("RGB", (4, 4)), "EPS")
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(ValueError, match="no picture of a known kind"):
        decode_picture(content)


def test_a_dim_deep_picture_stays_dim():
    assert np.abs(shades(encoded(RAMP.astype(np.uint16) * 128, "PNG")) - RAMP / 2).max() <= 1
    assert (shades(encoded(np.full((4, 4), 2570, np.uint16), "PNG")) == 10).all()  # nothing to stretch
    assert (shades(encoded(np.full((4, 4), 7.0, np.float32), "TIFF")) == 255).all()


def test_what_is_no_number_spoils_nothing():
    values = (RAMP / 255).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    found = shades(encoded(values, "TIFF"))
    assert found[0, :3].tolist() == [0, 255, 0] and np.abs(found[1:] - RAMP[1:]).max() <= 1
    assert (shades(encoded(np.full((2, 2), np.nan, np.float32), "TIFF")) == 0).all()


def test_min_is_white_is_turned_round():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    content = encoded(RAMP.astype(np.uint16) * 257, "TIFF", tiffinfo=tags)
    with Image.open(BytesIO(content)) as image:
        assert image.tag_v2[262] == 0 and image.mode == "I;16"
    assert np.array_equal(shades(content), 255 - RAMP)


@pytest.mark.parametrize(
    ("mode", "kind", "off"),
    [("CMYK", "TIFF", 0.5), ("CMYK", "JPEG", 4), ("LAB", "TIFF", 4), ("YCbCr", "TIFF", 2), ("P", "PNG", 20)],
)
def test_colours_of_every_model(mode, kind, off):
    content = encoded(Image.fromarray(RGB).convert(mode), kind)
    with Image.open(BytesIO(content)) as image:
        assert image.mode == mode or mode == "YCbCr"
    assert np.abs(decode_picture(content).astype(int) - RGB).mean() <= off


def test_bits_are_black_and_white():
    assert np.array_equal(shades(encoded(RAMP > 99, "PNG")), (RAMP > 99) * 255)


DISC = ((X - 45) ** 2 + (Y - 30) ** 2) < 400
HIDDEN = np.where(DISC[..., None], RGB, np.random.default_rng(0).integers(0, 255, (60, 90, 3))).astype(np.uint8)


def test_hidden_colours_are_not_seen():
    cut = encoded(np.dstack([HIDDEN, DISC * np.uint8(255)]), "PNG")
    assert np.array_equal(decode_picture(cut), np.where(DISC[..., None], RGB, 255))
    assert np.array_equal(decode_picture(cut, background=(10, 20, 30)), np.where(DISC[..., None], RGB, (10, 20, 30)))
    half = encoded(np.full((2, 2, 4), (200, 0, 100, 128), np.uint8), "WEBP", lossless=True)
    assert np.abs(decode_picture(half)[0, 0] - np.array([227, 127, 177])).max() <= 1


@pytest.mark.parametrize("kind", ["grey and alpha", "palette", "colour key", "16-bit key", "gif"])
def test_every_kind_of_transparency(kind):
    grey = np.where(DISC, 40, 200).astype(np.uint8)
    content = {
        "grey and alpha": lambda: encoded(np.dstack([grey, DISC * np.uint8(255)]), "PNG"),
        "palette": lambda: encoded(Image.fromarray(grey).convert("P"), "PNG", transparency=200),
        "colour key": lambda: encoded(np.dstack([grey] * 3), "PNG", transparency=(200, 200, 200)),
        "16-bit key": lambda: encoded(grey.astype(np.uint16) * 257, "PNG", transparency=200 * 257),
        "gif": lambda: encoded(Image.fromarray(grey), "GIF", transparency=200),
    }[kind]()
    assert np.array_equal(shades(content), np.where(DISC, 40, 255))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    content = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **{"WEBP": {"lossless": True}}.get(kind, {})
    )
    assert (decode_picture(content) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(kind, turn):
    exif = Image.Exif()
    exif[274] = turn
    upright = np.kron(np.array([[0, 90], [160, 250]], np.uint8), np.ones((16, 24), np.uint8))
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[turn]  # fmt: skip
    content = encoded(np.dstack([np.ascontiguousarray(stored)] * 3), kind, exif=exif)
    seen = decode_picture(content)[..., 0].astype(int)
    assert seen.shape == upright.shape and np.abs(seen - upright).mean() < 3
    raw = decode_picture(content, orient=False)[..., 0].astype(int)
    assert raw.shape == stored.shape and np.abs(raw - stored).mean() < 3


def test_broken_exif_is_no_reason_to_refuse_a_picture():
    content = encoded(RGB, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert np.array_equal(decode_picture(content), decode_picture(encoded(RGB, "JPEG")))


def test_tiny_and_thin_pictures():
    assert decode_picture(encoded(RGB[:1, :1], "PNG")).shape == (1, 1, 3)
    assert decode_picture(encoded(Image.new("L", (3000, 1)), "PNG")).shape == (1, 3000, 3)


def said(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_picture(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
def test_truncated_files_are_named(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    (tmp_path / "cut").write_bytes(encoded(noise, kind)[:-900])
    assert "cannot" in said(tmp_path / "cut")


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert "the file is empty" in said(tmp_path / "empty.jpg")
    (tmp_path / "page.jpg").write_text("<html>")
    assert "no picture of a known kind" in said(tmp_path / "page.jpg")
    assert "No such file" in said(tmp_path / "missing.jpg")
    assert "directory" in said(tmp_path)


def test_size_has_a_limit(tmp_path, monkeypatch):
    file = tmp_path / "large.ppm"
    file.write_bytes(b"P6 20000 10000 255\n")
    assert "200 megapixels are too large, the limit is 179: shrink it" in said(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # between one and two of it Pillow only warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_picture(encoded(RGB, "PNG")).shape == RGB.shape


def test_folders_stand_for_their_pictures(tmp_path):
    for name in ("10.jpg", "2.JPG", "a1.png", "._2.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more.png").mkdir()
    assert [p.name for p in picture_files([tmp_path / "notes.txt", tmp_path])] == [
        "notes.txt",
        "2.JPG",
        "10.jpg",
        "a1.png",
    ]
    with pytest.raises(UserError, match="no pictures in .*more.png"):
        picture_files([tmp_path / "more.png"])


def test_names_that_are_no_text_are_printable(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"")
    with pytest.raises(UserError) as error:
        read_picture(*picture_files([tmp_path]))
    assert str(error.value).encode().endswith(rb"caf\xe9.png: the file is empty")
