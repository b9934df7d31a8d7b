"""Files: written whole or not at all, and images decoded with errors that name the file."""

import os
import secrets
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.scene import UnreadableSample


def write_atomic(path: Path, content: bytes, durable: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Args:
        durable: so that this holds after a power cut too, which takes some milliseconds.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def decode_rgb(content: bytes, path: object) -> np.ndarray:
    """An encoded image (JPEG, PNG) as uint8 RGB [H, W, 3]; `path` is what an error names.

    Pixels stay where the file has them: annotations refer to the stored raster, not to its EXIF orientation.

    Raises:
        UnreadableSample: empty, truncated or damaged, or not an image.
    """
    if not content:
        raise UnreadableSample(path, "the file is empty")
    try:
        with Image.open(BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableSample(path, f"cannot be decoded as an image ({error})") from error


def read_file(path: Path) -> bytes:
    """The bytes of one sample's file.

    Raises:
        UnreadableSample: missing, or the disk failed.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSample(path, error.strerror or str(error)) from error
