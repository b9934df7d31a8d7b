"""SA-1B as released: `sa_*.jpg` with `sa_*.json`, unpacked or straight from the tars; read and write."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.archives import index_tar, pack_tar, read_member
from common.data.checks import try_source
from common.data.files import decode_rgb, is_file, is_folder, read_file, walk, write_atomic
from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT, parse

ABOUT = """SA-1B: 11 million photographs with 1.1 billion masks, Meta AI, under the SA-1B research licence.
  from: ai.meta.com/datasets/segment-anything-downloads (accept the licence there); 1,000 tars of about 11 GB
  expected: sa_000000.tar, sa_000001.tar, ... as downloaded, or unpacked sa_*.jpg and sa_*.json, at any depth"""
IMAGES_PER_TAR = 11186
FILE = re.compile(r"(sa_.+)\.(jpg|json)")
KINDS = {"jpg": 0, "json": 1}
PLACE = np.dtype([("container", np.int32), ("offset", np.int64), ("size", np.int64)])
NOWHERE = (-1, 0, 0)
UNPACKED = -1  # instead of an offset: the container is a folder


@schema(config=STRICT, slots=True)
class Rle:
    """A mask as COCO's compressed run-length encoding."""

    size: tuple[int, int]
    counts: str


@schema(config=STRICT, slots=True)
class Annotation:
    segmentation: Rle


@schema(config=STRICT, slots=True)
class Annotations:
    annotations: list[Annotation]


ANNOTATIONS = TypeAdapter(Annotations)


class SA1B(SceneSource):
    """Images and masks of SA-1B (Kirillov et al. 2023), in the numeric order of their names.

    Tars are read in place; each is indexed once. An image without its JSON, or the reverse, is listed and unreadable.

    Args:
        root: folder with tars or unpacked files, at any depth, or one tar; `$DATA_ROOT` is replaced.
        fraction: how much of what is under `root` to use: the first tars in order of their names (0.01 of all 1,000
            is sa_000000 to sa_000009), or, where files are unpacked, the first images. At least one. With only
            1 % downloaded, leave it at 1.
        offset: images to skip at the beginning (of the fraction).
        limit: images to use after these; None for all.
        masks: False leaves the masks undecoded, which takes most of the time and memory: scenes have none then.

    Raises:
        UserError: no such folder, nothing of SA-1B in it, a truncated tar, or a selection that is empty.
    """

    def __init__(self, root: str, fraction: float = 1.0, offset: int = 0, limit: int | None = None, masks: bool = True):
        if not 0 < fraction <= 1 or offset < 0 or (limit is not None and limit < 1):
            raise UserError(
                f"SA-1B: fraction {fraction} must lie in (0, 1], offset {offset} be 0 or more, limit {limit} 1 or more"
            )
        self.masks = masks
        folder = expand(root, "root of SA-1B")
        tars, loose = _find(folder)
        if fraction < 1 and tars and loose:
            raise UserError(
                f"{folder} holds tars and unpacked files: {fraction:g} of it is not defined. Keep one of the two."
            )
        tars = tars[: max(1, round(fraction * len(tars)))]
        self._containers: list[Path] = []
        places: dict[str, list[tuple[int, int, int]]] = {}
        for name, kind, place in [*self._packed(tars), *self._unpacked(loose)]:
            pair = places.setdefault(name, [NOWHERE, NOWHERE])
            if pair[kind] == NOWHERE:  # the same file again, say a tar and its unpacked copy, is read once
                pair[kind] = place
        if not any(image != NOWHERE and annotation != NOWHERE for image, annotation in places.values()):
            raise UserError(f"no sa_*.jpg with its sa_*.json in {folder} for {ABOUT}")
        names = sorted(places, key=_numeric)
        if not tars:
            names = names[: max(1, round(fraction * len(names)))]
        chosen = names[offset:][:limit]
        if not chosen:
            raise UserError(f"SA-1B: offset {offset} leaves nothing of the {len(names)} images in {folder}")
        # arrays, not lists of objects: forked workers share them, spawned ones receive them quickly
        self._names = np.array([os.fsencode(name) for name in chosen], dtype="S")
        self._places = np.array([places[name] for name in chosen], dtype=PLACE)

    @classmethod
    def check(cls, root: str, fraction: float = 1.0, **selection: Any) -> None:
        """Try the first and the last of the tars, whatever is selected in them, or the selected unpacked files."""
        tars, _ = _find(expand(root, "root of SA-1B"))
        tars = tars[: max(1, round(fraction * len(tars)))]
        if not tars:
            try_source(cls(root, fraction, **selection))
        for tar in dict.fromkeys(tars[:1] + tars[-1:]):
            try_source(cls(str(tar)))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Scene:
        """Image and masks, in the file's order. Raises UnreadableSample for a broken image, JSON or RLE."""
        image = self.image(index)
        if not self.masks:
            return Scene(image, np.zeros((0, *image.shape[:2]), bool), self.name(index))
        path, content = self._read(index, "json")
        return Scene(image, read_annotations(content, image.shape[:2], path), self.name(index))

    def image(self, index: int) -> np.ndarray:
        """The image alone, uint8 RGB [H, W, 3]: decoding the masks of one takes several times longer."""
        path, content = self._read(index, "jpg")
        return decode_rgb(content, path, orient=False)

    def name(self, index: int) -> str:
        return os.fsdecode(self._names[index])

    @property
    def names(self) -> list[str]:
        """What an `ArrayStore` of features of these images checks its rows against."""
        return [os.fsdecode(name) for name in self._names]

    def _read(self, index: int, kind: str) -> tuple[str, bytes]:
        """Path (for messages) and content of one file of a pair."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = f"{self.name(index)}.{kind}"
        container, offset, size = self._places[index, KINDS[kind]].item()
        if container < 0:
            raise UnreadableSample(file, f"missing; the other file of the pair is in {self._other(index, kind)}")
        path = self._containers[container]
        if offset == UNPACKED:
            return str(path / file), read_file(path / file)
        return f"{path}:{file}", read_member(path, offset, size, file)

    def _other(self, index: int, kind: str) -> Path:
        return self._containers[self._places[index, 1 - KINDS[kind]]["container"]]

    def _packed(self, tars: list[Path]) -> Iterator[tuple[str, int, tuple[int, int, int]]]:
        for tar in tars:
            self._containers.append(tar)
            found = index_tar(tar)
            for member, offset, size in zip(found.names, found.offsets.tolist(), found.sizes.tolist(), strict=True):
                if match := FILE.fullmatch(member.rsplit("/", 1)[-1]):
                    yield match[1], KINDS[match[2]], (len(self._containers) - 1, offset, size)

    def _unpacked(self, files: list[Path]) -> Iterator[tuple[str, int, tuple[int, int, int]]]:
        for file in files:  # sorted, so that a folder's files come together
            if not self._containers or self._containers[-1] != file.parent:
                self._containers.append(file.parent)
            if match := FILE.fullmatch(file.name):
                yield match[1], KINDS[match[2]], (len(self._containers) - 1, UNPACKED, 0)


def _find(folder: Path) -> tuple[list[Path], list[Path]]:
    """Tars and unpacked files under a folder, each in order of name; UserError where there is no folder."""
    if folder.suffix == ".tar" and is_file(folder):
        return [folder], []
    if not is_folder(folder):
        raise UserError(f"no folder {folder} for {ABOUT}")
    tars, loose = [], []
    for parent, names in walk(folder):
        for name in names:
            if name.startswith("sa_") and name.endswith(".tar"):
                tars.append(parent / name)
            elif FILE.fullmatch(name):
                loose.append(parent / name)
    return sorted(tars, key=lambda tar: _numeric(tar.stem)), loose


def _numeric(name: str) -> tuple[list[int], str]:
    """Sorts sa_9 before sa_10, and so images in the order of the tars that hold them."""
    return [int(digits) for digits in re.findall(r"[0-9]{1,18}", name)], name


class EncodedMasks:
    """Masks of one image as COCO's compressed run-length encodings, decoded when they are asked for.

    Of the hundred masks of an image a training step draws four; to decode them all takes seconds.

    Args:
        segmentations: of SA-1B's annotations: `size` and `counts`.
        shape: (H, W) that all must have.

    Raises:
        ValueError: another size, or counts that are not an encoding of a mask of this size.
    """

    def __init__(self, segmentations: list[dict[str, Any]], shape: tuple[int, int]):
        self.shape = (len(segmentations), *shape)
        self._counts = [segmentation["counts"] for segmentation in segmentations]
        for segmentation in segmentations:
            if list(segmentation["size"]) != list(shape):
                raise ValueError(f"a mask is {list(segmentation['size'])}, the image {list(shape)}")
            runs = rle_runs(segmentation["counts"])
            # pycocotools trusts its input: it reads and writes past its buffers where this does not hold
            if runs.min() < 0 or runs.max() > shape[0] * shape[1] or runs.sum() != shape[0] * shape[1]:
                raise ValueError(f"broken RLE: its runs cover {runs.sum()} of {shape[0] * shape[1]} pixels")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        """What an array's first axis gives for a number, a slice, or an array of numbers or of booleans."""
        numbers = np.arange(len(self))[which]
        masks = np.empty((numbers.size, *self.shape[1:]), bool)
        for mask, number in zip(masks, numbers.flat, strict=True):
            columns = coco_mask.decode({"size": list(self.shape[1:]), "counts": self._counts[number]})
            cv2.transpose(columns.T, mask.view(np.uint8))  # from column-major; several times faster than numpy
        return masks.reshape(*numbers.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or bool, copy=False)


def read_annotations(content: bytes, shape: tuple[int, int], path: str) -> EncodedMasks:
    """The masks of an SA-1B JSON in the file's order: bool [K, H, W].

    Raises:
        UnreadableSample: not JSON, without the keys of the format, masks of another size, or a broken RLE.
    """
    try:
        found = parse(ANNOTATIONS, content).annotations
        return EncodedMasks([asdict(annotation.segmentation) for annotation in found], shape)
    except ValueError as error:
        raise UnreadableSample(path, f"not SA-1B's format ({error})") from error


def rle_runs(counts: str) -> np.ndarray:
    """Lengths of the alternating runs of 0 and 1 that `counts` encodes, int64 [R].

    A number is written in groups of five bits, the lowest first, each as the character 48 + group (+ 32 if more
    follow); from the fourth number on, it is the difference to the run before the last.

    Raises:
        ValueError: not such a string.
    """
    if not counts:
        raise ValueError("broken RLE: no counts")
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("broken RLE: counts are cut off, or hold characters that do not belong there")
    ends = np.flatnonzero(codes & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:
        raise ValueError("broken RLE: a number of more than 32 bits")
    starts = ends + 1 - lengths
    digits = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * digits), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)  # sign extension
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def write_sa1b(folder: str | Path, name: str, image: np.ndarray, masks: np.ndarray, quality: int = 95) -> None:
    """Write `<name>.jpg` and `<name>.json` in SA-1B's format, each whole or not at all.

    Where SA-1B has SAM's scores and the prompt that made a mask, these files have scores of 1 and one of its pixels.

    Args:
        name: must begin with "sa_".
        image: uint8 RGB, [H, W, 3].
        masks: bool, [K, H, W].
        quality: of the JPEG.
    """
    height, width = image.shape[:2]
    if not FILE.fullmatch(f"{name}.jpg") or masks.shape[1:] != (height, width):
        raise ValueError(f"{name}: names begin with 'sa_'; masks {masks.shape} must be [K, {height}, {width}]")
    number = re.search(r"\d+", name)
    content = {
        "image": {
            "image_id": int(number[0]) if number else 0,
            "width": width,
            "height": height,
            "file_name": f"{name}.jpg",
        },
        "annotations": [_annotation(mask, k) for k, mask in enumerate(masks)],
    }
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.jpg", encoded.getvalue())
    write_atomic(folder / f"{name}.json", json.dumps(content).encode())


def _annotation(mask: np.ndarray, number: int) -> dict[str, Any]:
    """One entry of `annotations`; boxes are [x, y, width, height] in pixels, points [x, y]."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    pixels = np.argwhere(mask)
    return {
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": len(pixels),
        "predicted_iou": 1.0,
        "stability_score": 1.0,
        "point_coords": pixels[len(pixels) // 2][None, ::-1].astype(float).tolist() if len(pixels) else [],
        "crop_box": [0.0, 0.0, float(mask.shape[1]), float(mask.shape[0])],
        "id": number,
    }


def pack_sa1b(folder: Path, tar: Path) -> None:
    """Pack the `sa_*` files of a folder into a tar like the released ones."""
    pack_tar(
        tar, sorted((file for file in folder.iterdir() if FILE.fullmatch(file.name)), key=lambda f: _numeric(f.name))
    )
