"""Images of one's own with masks as PNGs, or, to distil on, without any."""

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from common.console import printable
from common.data.files import decode_rgb, is_folder, read_file
from common.data.pictures import picture_files
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)


class MaskFolder(SceneSource):
    """Images with masks as PNGs, or, without `masks`, images alone (to distil on).

    The masks of `a.jpg` are in `a.png`, whose colours, palette indices or grey values other than 0 (black) are an
    object each, or in a folder `a/` of PNGs, each of them one object where it is not black. Images without either are
    left out with a warning.

    Args:
        images: folder of pictures; `$DATA_ROOT` is replaced.
        masks: folder of their masks; None for no masks.
        offset: images to skip at the beginning, in the order of their names.
        limit: images to use after these; None for all.

    Raises:
        UserError: a folder is missing, or nothing in it is left to use.
    """

    def __init__(self, images: str, masks: str | None = None, offset: int = 0, limit: int | None = None):
        files = picture_files([_folder(images, "images")])
        self._masks: list[list[Path]] = [[] for _ in files]
        if masks is not None:
            folder = _folder(masks, "masks")
            pairs = [(file, _mask_files(folder, file.stem)) for file in files]
            pairs = [(file, found) for file, found in pairs if found]
            if len(pairs) < len(files):
                log.warning("%d of the %d images have masks in %s", len(pairs), len(files), printable(folder))
            files, self._masks = [file for file, _ in pairs], [found for _, found in pairs]
        self._files, self._masks = files[offset:][:limit], self._masks[offset:][:limit]
        if not self._files:
            raise UserError(
                f"{len(files)} images in {images} have what is needed (masks for a.jpg: {masks or '<masks>'}/a.png or "
                f"{masks or '<masks>'}/a/*.png); offset {offset}, limit {limit} leave none of them"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Scene:
        """Image and masks. UnreadableSample for a broken picture, or masks of another size."""
        path, files = self._files[index], self._masks[index]
        image = decode_rgb(read_file(path), printable(path))
        shape = (image.shape[0], image.shape[1])
        found = [np.zeros((0, *shape), bool)]
        for file in files:
            numbers = read_numbers(file)
            if numbers.shape != shape:
                raise UnreadableSample(printable(file), f"is {numbers.shape} pixels, its image {shape}")
            own = [number for number in np.unique(numbers).tolist() if number]
            single = file.parent.name == path.stem
            found.append(numbers[None] != 0 if single else numbers == np.array(own, numbers.dtype)[:, None, None])
        return Scene(image, _filled(np.concatenate(found)), path.stem)


def read_numbers(path: Path) -> np.ndarray:
    """A PNG's grey values, palette indices or colours (r + 256 g + 65536 b), int64 [H, W]; transparency is no number.

    Raises:
        UnreadableSample: missing, damaged, or no picture.
    """
    content = read_file(path)
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode == "LA":
                image = image.convert("L")
            elif image.mode not in ("1", "L", "P") and image.mode[0] != "I":
                image = image.convert("RGB")
            values = np.asarray(image).astype(np.int64)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableSample(printable(path), f"cannot be decoded as an image ({error})") from error
    return values if values.ndim == 2 else values @ np.array([1, 1 << 8, 1 << 16])


def _folder(path: str, what: str) -> Path:
    folder = expand(path, what)
    if not is_folder(folder):
        raise UserError(f"no folder {printable(folder)} of {what}")
    return folder


def _mask_files(folder: Path, stem: str) -> list[Path]:
    single = folder / f"{stem}.png"
    return [single] if single.is_file() else sorted((folder / stem).glob("*.png"))


def _filled(masks: np.ndarray) -> np.ndarray:
    """Those of masks [K, H, W] that are not empty."""
    return masks[masks.any((1, 2))]
