"""Pictures as people have them: every kind of file becomes uint8 RGB, or an error that says what is wrong with it.

What happens to the kinds of pixels:

    1 bit, grey, palette     the colours that are meant
    CMYK, YCbCr, LAB, HSV    converted to RGB
    16 bits, 32 bits, float  black is 0 and white 65535, for float 1. Where a value lies outside of these, or none
                             reaches a sixteenth of white (12-bit cameras, metres, Hounsfield units), the lowest is
                             black and the highest white. What is no number is black, infinity white
    16 bits a colour         the upper eight
    transparent              over a background, white by default: colours hidden under alpha = 0 are not seen
    several frames, pages    the first
    EXIF orientation         applied, unless what belongs to the pixels (masks) counts them as they are stored
"""

import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.console import printable
from common.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"})
WHITE = (255, 255, 255)
DARK = 16  # a deep picture is stretched where its brightest pixel is darker than this part of white
MIN_IS_WHITE = 0  # of the TIFF tag 262, PhotometricInterpretation
UNSIGNED, SIGNED = 1, 2  # of the TIFF tag 339, SampleFormat
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PROGRAMS = {"EPS", "WMF", "EMF"}  # formats that another program would have to run, or Windows to draw


def decode_picture(content: bytes, background: tuple[int, int, int] = WHITE, orient: bool = True) -> np.ndarray:
    """An encoded picture of any kind as uint8 RGB [H, W, 3].

    Args:
        background: what transparent pixels lie over.
        orient: turn it as its EXIF orientation says; False keeps the stored raster.

    Raises:
        ValueError: empty, truncated or damaged, no picture, or too large; says which.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with warnings.catch_warnings():
            # of more than 89 megapixels (twice as many are refused), of damaged EXIF: nothing that the user must mend
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content)) as image:
                if image.format in PROGRAMS:
                    raise Image.UnidentifiedImageError
                image.load()
                if orient:
                    with suppress(Exception):  # EXIF is damaged, but the pixels have been decoded
                        ImageOps.exif_transpose(image, in_place=True)
                return np.array(_flatten(image, background))
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        size = f"{int(pixels[0]) / 1e6:.0f} megapixels are" if pixels else "it is"
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ValueError(
            f"{size} too large, the limit is {limit:.0f}: shrink it first, or cut it into pieces"
        ) from error
    except Image.UnidentifiedImageError as error:
        if content.startswith(TIFF):
            raise ValueError(
                "it is a TIFF of a rare kind: save it in grey or RGB of 8 or 16 bits, or in grey of 32 bits"
            ) from error
        raise ValueError("it is no picture of a known kind: give a JPEG, PNG, TIFF, WebP, GIF or BMP") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ValueError(
            f"it cannot be decoded as an image ({error}): the file is damaged or of a rare kind"
        ) from error


def read_picture(path: Path, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    """A picture's file as uint8 RGB [H, W, 3], upright; see `decode_picture`.

    Raises:
        UserError: missing, a folder, or what `decode_picture` refuses; names the file.
    """
    try:
        return decode_picture(path.read_bytes(), background)
    except OSError as error:
        raise UserError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"cannot read {printable(path)}: {error}") from error


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant: folders stand for the pictures in them, numbers in names counted (2.jpg before 10.jpg).

    A file that is named itself is taken whatever its ending. Hidden files, as macOS leaves beside each picture, and
    folders within folders are left out.

    Raises:
        UserError: a folder that cannot be read, or without pictures.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            names = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
        except OSError as error:
            raise UserError(f"cannot read the folder {printable(path)}: {error.strerror or error}") from error
        inside = sorted((file for file in names if file.is_file()), key=natural)
        if not inside:
            raise UserError(f"no pictures in {printable(path)}: names that end in {', '.join(sorted(SUFFIXES))} count")
        found += inside
    return found


def natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """A key that sorts names as people do: numbers by their value and before letters, letters whatever their case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    return [(False, int(part), "") if part[0] in "0123456789" else (True, 0, part) for part in parts], path.name


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGB of any mode, transparent parts over the background."""
    tags = getattr(image, "tag_v2", {})
    signs = tags.get(339, (UNSIGNED,))[0]  # which Pillow does not look at, where it has but one kind of 8 or 32 bits
    if image.mode[0] in "IF" or (image.mode == "L" and signs == SIGNED):
        values = np.asarray(image)  # Pillow's own conversion makes all but the darkest of their greys white
        if image.mode == "I" and tags.get(258) == (32,) and signs == UNSIGNED:
            values = values.view(np.uint32)
        elif image.mode == "L":
            values = values.view(np.int8)
        grey = _shades(values, {"F": 1.0, "L": 127.0}.get(image.mode, 65535.0))
        if tags.get(262) == MIN_IS_WHITE:
            grey = 255 - grey
        flat = Image.fromarray(grey)
        clear = image.info.get("transparency")  # a PNG's one grey that is transparent
        if isinstance(clear, int):
            flat.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        image = flat
    if not image.has_transparency_data:
        return image.convert("RGB")
    over = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(over, image.convert("RGBA")).convert("RGB")


def _shades(values: np.ndarray, white: float) -> np.ndarray:
    """Greys of more than 8 bits as uint8 [H, W], by the rule that this file's first lines give."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if high > low and (low < 0 or high > white or high < white / DARK):
        black, span = low, high - low
    else:
        black, span = 0.0, white
    shades = np.nan_to_num((values.astype(np.float64) - black) / span, nan=0.0, posinf=1.0)
    return (shades.clip(0, 1) * 255 + 0.5).astype(np.uint8)
